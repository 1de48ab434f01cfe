import { runFileJsonSchema } from '../../../shared/config/json-schema.ts';

interface Node {
  readonly const?: string;
  readonly enum?: readonly string[];
  readonly anyOf?: readonly Node[];
  readonly oneOf?: readonly Node[];
  readonly items?: Node;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
}

/** The axes of a sparsity rule, each with every name that a run file may give. */
export function namesInSchema(): Record<Axis, string[]> {
  const rule = (runFileJsonSchema() as Node).properties?.['sparsity']?.items?.properties ?? {};
  const names = (key: string): string[] => namesOf(rule[key] ?? {}).sort();
  return {
    criterion: names('criterion'),
    granularity: names('granularity'),
    scope: names('scope'),
    schedule: names('schedule'),
    regrowth: names('regrowth'),
  };
}

export type Axis = 'criterion' | 'granularity' | 'scope' | 'schedule' | 'regrowth';

/** A name itself, the `kind` of a mapping, or the key that a mapping must have. */
function namesOf({ const: value, enum: values, anyOf, oneOf, properties, required }: Node): string[] {
  const each = anyOf ?? oneOf;
  if (each !== undefined) return each.flatMap(namesOf);
  if (values !== undefined) return [...values];
  if (value !== undefined) return [value];
  return properties?.['kind'] === undefined ? [...(required ?? [])] : namesOf(properties['kind']);
}

/** The names that a rule of a run file gives, defaults included. */
export function namesOfRule(rule: Readonly<Record<string, unknown>>): Record<Axis, string> {
  const name = (key: Axis, fallback: string): string => {
    const value: unknown = rule[key] ?? fallback;
    if (typeof value !== 'object' || value === null) return String(value);
    return 'kind' in value ? String(value.kind) : (Object.keys(value)[0] ?? '');
  };
  return {
    criterion: name('criterion', 'magnitude'),
    granularity: name('granularity', 'element'),
    scope: name('scope', 'global'),
    schedule: name('schedule', ''),
    regrowth: name('regrowth', 'none'),
  };
}
