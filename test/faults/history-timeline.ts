import { parseCheckpointName } from '../../shared/checkpoint/manifest-file.ts';
import type {
  GenerationEvent,
  HistoryEvent,
  HistoryRecord,
  ProcessHistory,
} from '../../shared/telemetry/history-records.ts';

/** What a run must have done; of its run file and its end, not of its history. */
export interface Expectation {
  readonly mode: 'bsp' | 'ssp' | 'asp';
  /** Clocks that a read may lag in ssp. */
  readonly staleness: number;
  readonly servers: number;
  readonly slices: number;
  readonly batchSize: number;
  /** Last step of the run. */
  readonly steps: number;
  /** Steps with a mask update, ascending. */
  readonly updateSteps: readonly number[];
  /** Dead elements of the whole model after the update of a step. */
  readonly deadAt: (step: number) => number;
  /** The run says that it reached its last step. */
  readonly succeeded: boolean;
}

/** `checkpoint`: a checkpoint was made of parts that do not belong together, or a timeline starts from none. */
export type Invariant = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 10 | 'checkpoint';

export interface Violation {
  readonly invariant: Invariant;
  readonly message: string;
}

export type Report = (invariant: Invariant, message: string) => void;

/** One generation of the run, and which of its steps were never undone. */
export interface Era {
  readonly generation: number;
  /** The steps `after + 1 .. until` of it are part of the run's timeline. */
  readonly after: number;
  readonly until: number;
  readonly from: GenerationEvent['from'];
}

/** All records of a kind, each with the process that wrote it. */
export function recordsOf<K extends HistoryEvent['kind']>(
  processes: readonly ProcessHistory[],
  kind: K,
): Extract<HistoryRecord, { kind: K }>[] {
  return processes.flatMap(({ records }) =>
    records.filter((record): record is Extract<HistoryRecord, { kind: K }> => record.kind === kind),
  );
}

/**
 * The timeline that survives: the newest generation whole, of the one it started from the steps up to that
 * checkpoint, and so on back to initial values. In order of steps.
 */
export function survivingTimeline(processes: readonly ProcessHistory[], report: Report): Era[] {
  const taken = new Map<number, GenerationEvent>();
  for (const event of recordsOf(processes, 'generation')) {
    if (event.adopted) continue;
    if (taken.has(event.generation)) report(7, `generation ${event.generation} was taken twice`);
    taken.set(event.generation, event);
  }
  const eras: Era[] = [];
  let next = taken.get(Math.max(...taken.keys()));
  for (let until = Infinity; next !== undefined;) {
    const { generation, from } = next;
    eras.unshift({ generation, after: from?.clock ?? 0, until, from });
    if (from === null) return eras;
    const parent = parseCheckpointName(from.checkpoint);
    if (parent === null || parent.generation >= generation || parent.clock !== from.clock) {
      report('checkpoint', `generation ${generation} starts from ${from.checkpoint} at clock ${from.clock}`);
      return eras;
    }
    until = from.clock;
    next = taken.get(parent.generation);
    if (next === undefined)
      report(7, `generation ${parent.generation}, which ${from.checkpoint} is of, was never taken`);
  }
  return eras;
}
