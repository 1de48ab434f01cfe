import type { SparsityRule } from '../../config/types.ts';
import { WhittleError } from '../../errors.ts';
import type { Parameter } from '../../layout/parameter-space.ts';
import { criterionNamed } from '../criterion/index.ts';
import { unitScores } from '../granularity/group-norm.ts';
import { granularityOf } from '../granularity/index.ts';
import { nmGroups } from '../granularity/nm.ts';
import { type GatheredScores, packedScores } from './gather.ts';

/** What may die of one parameter as one: an element, a block, the surplus of an n:m group. */
export interface Candidates {
  /** One a candidate, ties by position; the lowest go first. */
  readonly scores: Float32Array;
  /** Calls `dies` with the elements, counted from the parameter's first, that go with candidate `i`. */
  readonly elements: (i: number, dies: (element: number) => void) => void;
  /** Units that are dead already. */
  readonly dead: number;
  /** Units that must stay, whatever their scores. */
  readonly minimum: number;
}

/** The candidates of one parameter from the scores of its survivors. */
export function candidatesOf(rule: SparsityRule, parameter: Parameter, gathered: GatheredScores): Candidates {
  const { normalize } = criterionNamed(rule.criterion);
  const comparable = normalize ? spread(normalize(packedScores(gathered)), gathered.alive) : gathered.scores;
  const minimum = rule.protect.minSurvivorsPerParameter;
  const granularity = granularityOf(rule.granularity);
  const why = granularity.refuse(parameter);
  if (why !== null) throw new WhittleError('UNSUPPORTED', why);
  if (rule.granularity === 'element') return elementCandidates(gathered.alive, comparable, minimum);
  const unitOf = granularity.unitOf(parameter.shape);
  const numUnits = granularity.numUnits(parameter.shape);
  if ('nm' in rule.granularity) {
    const [n, m] = rule.granularity.nm;
    const groups = nmGroups(comparable, gathered.alive, unitOf, parameter.size / m, n, m);
    return surplusCandidates(groups);
  }
  if ('block' in rule.granularity) {
    const scores = unitScores(comparable, unitOf, numUnits, rule.granularity.norm);
    return blockCandidates(gathered.alive, unitOf, scores, minimum);
  }
  throw new WhittleError('INTERNAL', `units of ${parameter.name} are ranked with what is coupled to them`);
}

/** Scores packed over the survivors, each at its element; 0 where dead. */
function spread(packed: Float32Array, alive: Uint8Array): Float32Array {
  const dense = new Float32Array(alive.length);
  let at = 0;
  for (let i = 0; i < alive.length; i++) if (alive[i] === 1) dense[i] = packed[at++] as number;
  return dense;
}

function elementCandidates(alive: Uint8Array, scores: Float32Array, minimum: number): Candidates {
  const elements = indicesWhere(alive.length, (i) => alive[i] === 1);
  return {
    scores: Float32Array.from(elements, (element) => scores[element] as number),
    elements: (i, dies) => dies(elements[i] as number),
    dead: alive.length - elements.length,
    minimum,
  };
}

function blockCandidates(alive: Uint8Array, unitOf: Uint32Array, scores: Float32Array, minimum: number): Candidates {
  const members: number[][] = Array.from(scores, () => []);
  for (let element = 0; element < unitOf.length; element++) {
    if (alive[element] === 1) members[unitOf[element] as number]?.push(element);
  }
  const units = indicesWhere(scores.length, (unit) => (members[unit] as number[]).length > 0);
  return {
    scores: Float32Array.from(units, (unit) => scores[unit] as number),
    elements: (i, dies) => members[units[i] as number]?.forEach(dies),
    dead: scores.length - units.length,
    minimum,
  };
}

/** Groups that have more than n survivors; bringing one to n:m costs the scores that are lost. */
function surplusCandidates({ lost, dies, offsets }: ReturnType<typeof nmGroups>): Candidates {
  const open = indicesWhere(lost.length, (group) => (offsets[group + 1] as number) > (offsets[group] as number));
  return {
    scores: Float32Array.from(open, (group) => lost[group] as number),
    elements: (i, each) => {
      const group = open[i] as number;
      for (let k = offsets[group] as number; k < (offsets[group + 1] as number); k++) each(dies[k] as number);
    },
    dead: lost.length - open.length,
    // Every group keeps n.
    minimum: 0,
  };
}

function indicesWhere(length: number, holds: (i: number) => boolean): Uint32Array {
  const indices: number[] = [];
  for (let i = 0; i < length; i++) if (holds(i)) indices.push(i);
  return Uint32Array.from(indices);
}
