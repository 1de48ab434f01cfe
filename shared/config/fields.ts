import * as z from 'zod';
import { nearest } from './suggest.ts';

/*
 * Building blocks of the run file's schema. Each carries its error as a phrase: `must be ...` (the reader
 * appends the value found) or a whole sentence, then optionally `|` and a cure. For unknown keys the phrase is
 * the list of known ones. See problems.ts, which reads them.
 */

const LARGEST = 2 ** 31 - 1;

/** A whole number; min defaults to 0, max to 2^31-1. */
export function whole(about: string, { min = 0, max = LARGEST }: { min?: number; max?: number } = {}) {
  const error = ({ input }: { input?: unknown }): string =>
    max < LARGEST || (typeof input === 'number' && input > max)
      ? `must be a whole number from ${min} to ${max}`
      : `must be a whole number >= ${min}`;
  return z.int({ error }).min(min, { error }).max(max, { error }).describe(about);
}

/** A finite number: `min` and `max` inclusive, `above` and `below` exclusive. */
export function real(about: string, range: { min?: number; above?: number; max?: number; below?: number }, cure = '') {
  const { min, above, max, below } = range;
  const bounds = [
    ...(min === undefined ? [] : [`>= ${min}`]),
    ...(above === undefined ? [] : [`> ${above}`]),
    ...(max === undefined ? [] : [`<= ${max}`]),
    ...(below === undefined ? [] : [`< ${below}`]),
  ];
  const error = `must be a number ${bounds.join(' and ')}${cure === '' ? '' : `|${cure}`}`;
  let schema = z.number({ error });
  if (min !== undefined) schema = schema.min(min, { error });
  if (above !== undefined) schema = schema.gt(above, { error });
  if (max !== undefined) schema = schema.max(max, { error });
  if (below !== undefined) schema = schema.lt(below, { error });
  return schema.describe(about);
}

/** A place in the run: a step, `30%` or `3 epochs`. */
export function position(about: string) {
  const error = 'must be a step >= 0, a percentage such as 30%, or epochs such as 3 epochs';
  return z
    .union([whole(about), z.string().regex(/^(\d+(\.\d+)?\s*%|\d+(\.\d+)?\s*epochs?)$/, { error })], { error })
    .describe(about);
}

export function flag(about: string) {
  return z.boolean({ error: 'must be true or false' }).describe(about);
}

/** One of the words; `notYet` are words of the design that this version does not know how to do. */
export function choice<const T extends readonly [string, ...string[]]>(
  about: string,
  words: T,
  notYet: readonly string[] = [],
) {
  return z.enum(words, { error: ({ input }) => choiceError(input, words, notYet) }).describe(about);
}

function choiceError(input: unknown, words: readonly string[], notYet: readonly string[]): string {
  const word = wordOf(input);
  if (word !== undefined && notYet.includes(word)) return notAvailable(word, words);
  const suggestion = word === undefined ? undefined : nearest(word, words);
  return `must be ${oneOf(words)}${suggestion === undefined || suggestion === word ? '' : `|did you mean ${suggestion}?`}`;
}

/** A number of which this version can do only one value. */
export function only<const T extends number>(about: string, value: T, notYet: string) {
  const error = ({ input }: { input?: unknown }): string =>
    Number.isSafeInteger(input) && (input as number) >= 0
      ? `${notYet} is not available in this version; available: ${value}`
      : `must be ${value}`;
  return z.literal(value, { error }).describe(about);
}

/** A mapping in which unknown keys are errors. */
export function mapping<T extends z.core.$ZodShape>(about: string, shape: T) {
  const keys = Object.keys(shape);
  return z.strictObject(shape, { error: (issue) => mappingError(issue.code, keys) }).describe(about);
}

function mappingError(code: string, keys: readonly string[]): string {
  return code === 'unrecognized_keys' ? keys.join(' ') : `must be a mapping with the keys ${keys.join(', ')}`;
}

/** One of several mappings, told apart by their `kind`. */
export function kinds<const T extends Readonly<Record<string, Readonly<Record<string, z.core.$ZodType>>>>>(
  about: string,
  variants: T,
  notYet: readonly string[] = [],
) {
  const words = Object.keys(variants);
  const options = Object.entries(variants).map(([kind, shape]) => mapping(about, { kind: z.literal(kind), ...shape }));
  type Variant = { [K in keyof T & string]: z.ZodObject<{ kind: z.ZodLiteral<K> } & T[K], z.core.$strict> }[keyof T &
    string];
  const schema = z.discriminatedUnion('kind', options as never, {
    error: ({ code, input }) =>
      code === 'invalid_union'
        ? choiceError((input as { kind?: unknown }).kind, words, notYet)
        : `must be a mapping with a kind (${words.join(', ')})`,
  });
  return schema.describe(about) as unknown as z.ZodDiscriminatedUnion<[Variant, ...Variant[]], 'kind'>;
}

export function notAvailable(word: string, words: readonly string[]): string {
  return `${JSON.stringify(word)} is not available in this version; available: ${words.join(', ')}`;
}

export function oneOf(words: readonly string[]): string {
  return words.length === 1 ? String(words[0]) : `one of ${words.join(', ')}`;
}

/** `{ block: [4, 1] }` and `{ kind: set }` are known by their word. */
function wordOf(input: unknown): string | undefined {
  if (typeof input === 'string') return input;
  if (typeof input !== 'object' || input === null) return undefined;
  const { kind } = input as { kind?: unknown };
  return typeof kind === 'string' ? kind : Object.keys(input)[0];
}
