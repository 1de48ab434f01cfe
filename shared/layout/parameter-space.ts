import { WhittleError } from '../errors.ts';
import type { ModelDescription, ParameterSpec } from './model-description.ts';

/** A parameter and its place in the parameter space: elements [offset, offset + size). */
export interface Parameter extends ParameterSpec {
  readonly offset: number;
  readonly size: number;
}

/** The part [start, end) of the parameter space that belongs to one parameter. */
export interface ParameterPart {
  readonly parameter: Parameter;
  readonly start: number;
  readonly end: number;
}

/** All trainable parameters in model order, laid end to end: flat indices 0 .. size-1. */
export class ParameterSpace {
  readonly parameters: readonly Parameter[];
  /** Elements in all parameters together. */
  readonly size: number;
  readonly #byName: ReadonlyMap<string, Parameter>;

  private constructor(parameters: readonly Parameter[], size: number) {
    this.parameters = parameters;
    this.size = size;
    this.#byName = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  }

  /** Throws MODEL for a name that occurs twice or a shape that is not made of whole numbers from 0 up. */
  static of(specs: readonly ParameterSpec[]): ParameterSpace {
    const names = new Set<string>();
    const parameters: Parameter[] = [];
    let offset = 0;
    for (const spec of specs) {
      if (names.has(spec.name)) {
        throw new WhittleError('MODEL', `two parameters are named "${spec.name}": give their layers different names`);
      }
      names.add(spec.name);
      const size = spec.shape.reduce((product, dimension) => product * dimension, 1);
      if (!spec.shape.every((dimension) => Number.isSafeInteger(dimension) && dimension >= 0)) {
        throw new WhittleError('MODEL', `parameter "${spec.name}" has no fixed shape: [${spec.shape.join(', ')}]`);
      }
      parameters.push({ ...spec, offset, size });
      offset += size;
    }
    return new ParameterSpace(parameters, offset);
  }

  /** Of the model that a run began with, before any unit left it: what sparsity is a share of. */
  static begunWith({ parameters, shrunkFrom }: Pick<ModelDescription, 'parameters' | 'shrunkFrom'>): ParameterSpace {
    return ParameterSpace.of(shrunkFrom?.parameters ?? parameters);
  }

  byName(name: string): Parameter | undefined {
    return this.#byName.get(name);
  }

  /** The parameter that holds flat index `index`. */
  at(index: number): Parameter | undefined {
    return this.overlapping(index, index + 1)[0]?.parameter;
  }

  /** The parts of [start, end) by parameter, in flat order; parameters without elements never appear. */
  overlapping(start: number, end: number): ParameterPart[] {
    const parts: ParameterPart[] = [];
    for (const parameter of this.parameters) {
      if (parameter.offset >= end) break;
      const from = Math.max(start, parameter.offset);
      const to = Math.min(end, parameter.offset + parameter.size);
      if (from < to) parts.push({ parameter, start: from, end: to });
    }
    return parts;
  }
}
