import type { PulledWeights } from './server-links.ts';
import { idle, news, refuseNonFinite, type TrainingLoopOptions } from './loop-waits.ts';

/**
 * Trains where steps overlap. ssp: a step of clock c is computed on weights of clock c - staleness or later (Ho et
 * al. 2013, "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server"); asp: on whatever there
 * is. Each slice goes on by itself: one that is handed over begins at the first step that is not complete, and the
 * servers count what is computed twice once.
 */
export async function trainOverlapping(options: TrainingLoopOptions): Promise<void> {
  const { config, links, assignment, compute, wantedEvaluations } = options;
  const { steps } = config.training;
  const { mode, staleness } = config.consistency;
  const wait = (): Promise<void> => news(options, 'weights from the servers');
  const pull = async (clock: number): Promise<number> => take(await links.pullAtLeast(clock, wait), options);
  while (!assignment.leaving) {
    if (assignment.isEmpty) {
      await idle(options);
      continue;
    }
    let clock = await pull(0);
    /** The step after whose push fresh weights are on their way. */
    let awaited: number | null = null;
    const next = new Map<number, number>();
    while (!assignment.isEmpty && !assignment.leaving) {
      if (await evaluateWanted(options)) {
        clock = await pull(0);
        awaited = null;
      }
      for (const slice of assignment.slices) if (!next.has(slice)) next.set(slice, clock + 1);
      for (const slice of next.keys()) if (!assignment.slices.includes(slice)) next.delete(slice);
      const [slice, step] = [...next].sort(([, a], [, b]) => a - b)[0] ?? [0, steps + 1];
      if (awaited !== null && links.answered) {
        clock = await take(links.takeAnswers(), options);
        awaited = null;
        continue;
      }
      // An earlier step is that of a slice just handed over: the servers may be waiting for it.
      if (awaited !== null && step > awaited) {
        await wait();
        continue;
      }
      if (step > steps) {
        if (wantedEvaluations().length === 0) await wait();
        continue;
      }
      if (mode === 'ssp' && clock < step - 1 - staleness) {
        await links.askForAtLeast(step - 1 - staleness);
        awaited = step - 1;
        continue;
      }
      const result = await compute.gradient(step, slice);
      refuseNonFinite(result.gradient, step, slice);
      next.set(slice, step + 1);
      const last = [...next.values()].every((each) => each > step);
      await links.push({ step, slice, ...result, last });
      // The servers answer when their clocks are within the bound of the step that comes now.
      if (last) awaited = Math.max(awaited ?? 0, step);
    }
  }
}

/** Fetches the weights of clocks that are to be evaluated; true if it did, and the current ones must be fetched again. */
async function evaluateWanted(options: TrainingLoopOptions): Promise<boolean> {
  const { compute, links, wantedEvaluations, onEvaluable, onUnavailable } = options;
  const wanted = wantedEvaluations();
  for (const clock of wanted) {
    const weights = await links.pullExactly(clock, () => news(options, `weights of step ${clock} to evaluate`));
    if (weights === null) {
      onUnavailable(clock);
      continue;
    }
    await take(weights, options);
    await compute.keepForEvaluation(clock);
    onEvaluable(clock);
  }
  return wanted.length > 0;
}

async function take(weights: PulledWeights, { compute, onClock }: TrainingLoopOptions): Promise<number> {
  const calls: Promise<void>[] = [];
  if (weights.mask) calls.push(compute.setMask(weights.mask));
  calls.push(compute.setWeights(weights.packed, weights.state, weights.clock));
  onClock(weights.clock);
  await Promise.all(calls);
  return weights.clock;
}
