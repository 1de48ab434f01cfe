import { granularityOf } from '../sparsity/granularity/index.ts';
import { shareOfUnit } from '../sparsity/allocation/index.ts';
import { criterionNamed } from '../sparsity/criterion/index.ts';
import { sparsityAt, updateSteps } from '../sparsity/schedule/index.ts';
import { nameOf } from './problems.ts';
import type { RunFileDocument } from './schema.ts';
import type { SparsityDocument } from './schema-sparsity.ts';
import type { Path, Problem } from './source.ts';
import type { SparsitySchedule } from './types.ts';

type Rule = SparsityDocument[number];

/** A rule beside its schedule in steps, which is undefined while it depends on data not known yet. */
export interface RuleInQuestion {
  readonly rule: Rule;
  readonly path: Path;
  readonly document: RunFileDocument;
  readonly schedule: SparsitySchedule | undefined;
}

/** What does not go together in one rule, whatever the model. */
export function checkRule(question: RuleInQuestion): Problem[] {
  return [
    ...checkCriterion(question),
    ...checkUnits(question),
    ...checkRegrowth(question),
    ...checkStraightThrough(question),
    ...checkOverrides(question),
  ];
}

function checkCriterion({ rule, path, document, schedule }: RuleInQuestion): Problem[] {
  const { criterion, granularity, regrowth } = rule;
  const problem = (message: string): Problem[] => [
    { path: [...path, 'criterion'], message: `${nameOf([...path, 'criterion'])} ${criterion} ${message}` },
  ];
  const { needs, statistic } = criterionNamed(criterion);
  const optimizer = document.training.optimizer.kind;
  if (needs === 'secondMoment' && optimizer === 'sgd') {
    return problem(
      `needs the second moment that training.optimizer ${optimizer} does not keep; use adam, rmsprop or adagrad, or criterion: saliency`,
    );
  }
  if (needs === 'activations' && !hasUnits(granularity)) {
    return problem(
      'is about neurons and filters; write granularity: {neuron: {norm: 2}} or {filter: {norm: 2}}, or use criterion: saliency',
    );
  }
  if (criterion === 'movement' && granularity !== 'element' && normOf(granularity) !== 'mean') {
    const norm = normOf(granularity);
    if (norm !== undefined) {
      return problem(`has scores below 0, whose sign norm ${norm} takes away; write norm: mean`);
    }
  }
  if (criterion === 'snip' && regrowth !== 'none') {
    return problem(
      'prunes once, before training, and regrowth goes on; write initial: snip in regrowth and criterion: magnitude',
    );
  }
  if (schedule === undefined) return [];
  if (criterion === 'snip' && (schedule.beginStep > 0 || schedule.endStep > 0)) {
    return problem(
      `prunes once, before training, and the schedule has updates at steps ${schedule.beginStep} to ${schedule.endStep}; write schedule: {kind: oneShot, finalSparsity: ${schedule.finalSparsity}, at: 0}`,
    );
  }
  const { mode } = document.consistency;
  if (criterion === 'snip' && mode !== 'bsp') {
    return problem(
      `ranks the gradients of one batch of all workers before step 1, and consistency.mode is ${mode}; use mode: bsp`,
    );
  }
  const learns = statistic !== undefined || needs === 'secondMoment' || needs === 'activations';
  if (learns && schedule.beginStep === 0 && sparsityAt(schedule, 0) > 0 && regrowth === 'none') {
    return problem(
      'is learnt from steps, and the first update, at step 0, comes before any; prune from step 1 on or later, or use criterion: snip or magnitude',
    );
  }
  return [];
}

function checkUnits({ rule, path, schedule }: RuleInQuestion): Problem[] {
  const { granularity, scope } = rule;
  const problems: Problem[] = [];
  if (hasUnits(granularity) && rule.schedule.kind === 'cyclic') {
    problems.push({
      path: [...path, 'schedule', 'kind'],
      message: `${nameOf([...path, 'schedule', 'kind'])} cyclic brings back what was removed, which neurons and filters cannot; use another schedule, or granularity: element`,
    });
  }
  const share = shareOfUnit(granularity);
  if (share === 1 || granularity === 'element' || !('nm' in granularity)) return problems;
  const [n, m] = granularity.nm;
  if (scope === 'erk' || scope === 'er') {
    problems.push({
      path: [...path, 'scope'],
      message: `${nameOf([...path, 'scope'])} ${scope} asks more of large parameters than ${n}:${m} can give; use scope: global or layer`,
    });
  }
  const highest = schedule === undefined ? 0 : highestSparsity(schedule);
  const asked = [
    { at: [...path, 'schedule'], sparsity: highest },
    ...(rule.overrides ?? []).map(({ finalSparsity }, i) => ({
      at: [...path, 'overrides', i, 'finalSparsity'],
      sparsity: finalSparsity,
    })),
  ];
  for (const { at, sparsity } of asked) {
    if (sparsity <= share + 1e-9) continue;
    problems.push({
      path: at,
      message: `${nameOf(at)}: sparsity ${sparsity} is more than 1 - ${n}/${m} = ${share}, all that ${n}:${m} removes; lower it to ${share}`,
    });
  }
  return problems;
}

function checkRegrowth({ rule, path, document, schedule }: RuleInQuestion): Problem[] {
  const { regrowth, criterion, granularity } = rule;
  if (regrowth === 'none') return [];
  const at = [...path, 'regrowth'];
  const { mode } = document.consistency;
  const wrong: string[] = [];
  if (mode !== 'bsp') {
    wrong.push(`drops and grows at one step of all workers, and consistency.mode is ${mode}; use mode: bsp`);
  }
  if (granularity !== 'element') wrong.push('is of single elements; use granularity: element');
  if (criterionNamed(criterion).normalize !== undefined) {
    wrong.push(`ranks elements by themselves, and criterion is ${criterion}; use criterion: magnitude`);
  }
  if (rule.schedule.kind === 'cyclic') {
    wrong.push('is what the dense phases of a cyclic schedule do already; use another schedule, or regrowth: none');
  } else if (schedule !== undefined && schedule.beginStep === schedule.endStep) {
    wrong.push(
      `acts after the first update, and there is only one, at step ${schedule.endStep}; use kind: constant with an endStep`,
    );
  }
  if (regrowth.initial === 'snip' && schedule !== undefined && schedule.beginStep > 0) {
    wrong.push(`initial snip is for step 0, and beginStep is ${schedule.beginStep}; set beginStep: 0`);
  }
  return wrong.map((message) => ({ path: at, message: `${nameOf(at)} ${regrowth.kind} ${message}` }));
}

function checkStraightThrough({ rule, path, schedule }: RuleInQuestion): Problem[] {
  if (rule.straightThrough !== true) return [];
  const at = [...path, 'straightThrough'];
  const wrong: string[] = [];
  if (rule.regrowth !== 'none') {
    wrong.push('lets the dead come back by themselves, as regrowth does in its way; remove one of the two');
  }
  if (hasUnits(rule.granularity)) {
    wrong.push(
      'keeps what is dead, and neurons and filters go with all that is coupled to them; use granularity: element, or remove it',
    );
  }
  if (schedule !== undefined && schedule.beginStep === schedule.endStep) {
    wrong.push(
      `acts between the first update and endStep, and there is only one update, at step ${schedule.endStep}; remove it, or prune in several updates`,
    );
  }
  return wrong.map((message) => ({ path: at, message: `${nameOf(at)} ${message}` }));
}

function checkOverrides({ rule, path, schedule }: RuleInQuestion): Problem[] {
  const { overrides = [] } = rule;
  if (schedule === undefined || overrides.length === 0) return [];
  if (schedule.finalSparsity === 0) {
    const at = [...path, 'overrides'];
    const message = `${nameOf(at)} scale the schedule, which ends at sparsity 0; give these parameters a rule of their own`;
    return [{ path: at, message }];
  }
  return overrides.flatMap(({ finalSparsity }, i) => {
    const highest = highestSparsity(schedule) * (finalSparsity / schedule.finalSparsity);
    if (highest < 1) return [];
    const at = [...path, 'overrides', i, 'finalSparsity'];
    return [
      {
        path: at,
        message: `${nameOf(at)} ${finalSparsity} scales the schedule to sparsity ${highest} on the way, and all must stay below 1; lower it, or give these parameters a rule of their own`,
      },
    ];
  });
}

/** Curves are monotone, so their ends tell; lists are not. */
function highestSparsity(schedule: SparsitySchedule): number {
  const steps = schedule.kind === 'steps' ? updateSteps(schedule) : [schedule.beginStep, schedule.endStep];
  return Math.max(...steps.map((step) => sparsityAt(schedule, step)));
}

export function hasUnits(granularity: Rule['granularity']): boolean {
  const { name } = granularityOf(granularity);
  return name === 'neuron' || name === 'filter';
}

function normOf(granularity: Exclude<Rule['granularity'], 'element'>): 1 | 2 | 'mean' | undefined {
  if ('block' in granularity) return granularity.norm;
  if ('neuron' in granularity) return granularity.neuron.norm;
  return 'filter' in granularity ? granularity.filter.norm : undefined;
}
