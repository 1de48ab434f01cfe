/** When a schedule updates the mask between beginStep (always an update) and endStep (always the last one). */
export interface Updates<S> {
  /** The update at or before `step`, for beginStep <= step < endStep. */
  last(schedule: S, step: number): number;
  /** The update after the one at `step`, as if there were no endStep. */
  next(schedule: S, step: number): number;
}

/** beginStep, beginStep + frequency, ... */
export const regularUpdates: Updates<{ readonly beginStep: number; readonly frequency: number }> = {
  last: ({ beginStep, frequency }, step) => beginStep + Math.floor((step - beginStep) / frequency) * frequency,
  next: ({ frequency }, step) => step + frequency,
};
