import type { ModelDescription } from '../layout/model-description.ts';
import type { ParameterSpace } from '../layout/parameter-space.ts';
import { couplingsOf, FIXED, OUTPUT, type Couplings, type MemberRole } from './couplings.ts';

/** One axis of a parameter (or, where the role is `state`, of a non-trainable state) that is cut up among units. */
export interface UnitMember {
  readonly parameter: string;
  readonly role: MemberRole;
  readonly axis: number;
  /** For each unit of the group its positions on that axis, ascending; none where this parameter is not about it. */
  readonly positions: readonly (readonly number[])[];
}

/** Units (neurons, filters) that are made by the same kernels: each can be removed alone. */
export interface UnitGroup {
  /** Names of the kernels that make the units; several where their outputs are added. Model order. */
  readonly producers: readonly string[];
  /** Number of units. Unit u of a group with one producer is its u-th removable output, as a rule its output u. */
  readonly units: number;
  readonly members: readonly UnitMember[];
}

export interface ModelUnits {
  readonly groups: readonly UnitGroup[];
  /**
   * Kernels with outputs that are in no group, and why: `isOutput` for the output layer, never pruned and no error;
   * else what is met that cannot be shrunk, by name. A kernel may be here and in a group.
   */
  readonly refused: ReadonlyMap<string, { readonly isOutput: boolean; readonly why: string }>;
  /** Places [start, end) of the non-trainable states, laid end to end; absent: none is looked at. */
  readonly states?: ReadonlyMap<string, readonly [number, number]>;
}

/**
 * The units of a model and the slices that belong to each. Units whose slices are not all known (custom and shared
 * layers, layers that mix channels, frozen weights) and those of the output layer are in no group.
 * Errors: MODEL, where the topology cannot be read.
 */
export function unitGroupsOf(description: ModelDescription): ModelUnits {
  return groupUnits(description, couplingsOf(description));
}

export function groupUnits(description: ModelDescription, couplings: Couplings): ModelUnits {
  const { unions, producers, axes } = couplings;
  const refused = new Map<string, { isOutput: boolean; why: string }>();
  for (const { name, prunable } of description.parameters) {
    const why = couplings.refused.get(name.slice(0, name.lastIndexOf('/')));
    if (prunable && why !== undefined) refused.set(name, { isOutput: false, why });
  }
  const makers = new Map<number, Set<string>>();
  for (const [label, producer] of producers.entries()) {
    const why = unions.reason(label);
    if (why === null) {
      const root = unions.find(label);
      makers.set(root, (makers.get(root) ?? new Set()).add(producer));
    } else if (!refused.has(producer)) refused.set(producer, { isOutput: why === OUTPUT, why });
  }
  const groups = new Map<string, { producers: string[]; units: number[] }>();
  for (const [root, names] of makers) {
    const key = JSON.stringify([...names]);
    const group = groups.get(key) ?? { producers: [...names], units: [] };
    group.units.push(root);
    groups.set(key, group);
  }
  return {
    groups: [...groups.values()].map(({ producers, units }): UnitGroup => {
      const unitOf = new Map(units.map((root, unit) => [root, unit]));
      const members: UnitMember[] = [];
      for (const { parameter, role, axis, labels } of axes) {
        const positions = units.map((): number[] => []);
        let isAbout = false;
        for (const [position, label] of labels.entries()) {
          const unit = label === FIXED ? undefined : unitOf.get(unions.find(label));
          if (unit === undefined) continue;
          positions[unit]!.push(position);
          isAbout = true;
        }
        if (isAbout) members.push({ parameter, role, axis, positions });
      }
      return { producers, units: units.length, members };
    }),
    refused,
    states: placesOf(description.states),
  };
}

function placesOf(states: ModelDescription['states']): ReadonlyMap<string, readonly [number, number]> {
  let end = 0;
  return new Map(
    states.map(({ name, shape }) => {
      const start = end;
      end += shape.reduce((product, size) => product * size, 1);
      return [name, [start, end]];
    }),
  );
}

/** Flat indices within an array of this shape of the positions of one axis, ascending. */
export function sliceElements(shape: readonly number[], axis: number, positions: readonly number[]): number[] {
  const inner = shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  const outer = shape.slice(0, axis).reduce((product, size) => product * size, 1);
  const elements: number[] = [];
  for (let o = 0; o < outer; o++) {
    for (const position of positions) {
      const start = (o * shape[axis]! + position) * inner;
      for (let i = 0; i < inner; i++) elements.push(start + i);
    }
  }
  return elements;
}

/**
 * Flat indices in the parameter space, ascending, of a unit's elements in the members of these roles, by default all.
 * States are no parameters and never among them.
 */
export function elementsOfUnit(
  space: ParameterSpace,
  group: UnitGroup,
  unit: number,
  roles?: readonly MemberRole[],
): number[] {
  const elements = new Set<number>();
  for (const { parameter, role, axis, positions } of group.members) {
    const place = space.byName(parameter);
    if (place === undefined || (roles !== undefined && !roles.includes(role))) continue;
    for (const element of sliceElements(place.shape, axis, positions[unit] ?? [])) elements.add(place.offset + element);
  }
  return [...elements].sort((a, b) => a - b);
}
