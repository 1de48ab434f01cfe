import { parseDocument } from 'yaml';
import { WhittleError } from '../errors.ts';
import { nearest } from './suggest.ts';

/** `--set path=value`. */
export interface Override {
  readonly text: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

/** Throws RUN_FILE where the text is not `path=value` with a YAML value. */
export function parseOverride(text: string): Override {
  const cut = text.indexOf('=');
  const path = text.slice(0, Math.max(cut, 0)).trim().split('.');
  if (cut === -1 || path.some((step) => step === '' || step === '__proto__')) {
    throw new WhittleError(
      'RUN_FILE',
      `--set ${text}: must be path=value, such as training.steps=1000 or sparsity.0.schedule.finalSparsity=0.9`,
      { data: { set: text } },
    );
  }
  const document = parseDocument(text.slice(cut + 1), { prettyErrors: false });
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) {
    throw new WhittleError('RUN_FILE', `--set ${text}: the value is not YAML: ${fault.message.split('\n')[0]}`, {
      data: { set: text },
    });
  }
  return { text, path, value: document.toJS() as unknown };
}

/** A pair of which the run file takes one: setting one replaces the other. */
const ALTERNATIVES: Readonly<Record<string, string>> = { 'training.steps': 'epochs', 'training.epochs': 'steps' };

/** The document with the overrides in it, a copy. Keys are checked by the schema, list indices here. */
export function applyOverrides(document: unknown, overrides: readonly Override[]): unknown {
  const root = { '': structuredClone(document) };
  const given = new Set(overrides.map(({ path }) => path.join('.')));
  for (const override of overrides) {
    let holder: Holder = root;
    let key = '';
    for (const [depth, step] of override.path.entries()) {
      holder = enter(holder, key, step, override, depth);
      key = step;
    }
    const joined = override.path.join('.');
    const other = ALTERNATIVES[joined];
    if (other !== undefined && !given.has(`training.${other}`)) delete holder[other];
    put(holder, key, override.value);
  }
  return root[''];
}

type Holder = Record<string, unknown>;

/** The mapping or list at holder[key], made where nothing is there yet; throws where `step` cannot be in it. */
function enter(holder: Holder, key: string, step: string, override: Override, depth: number): Holder {
  const value = Object.hasOwn(holder, key) ? holder[key] : undefined;
  const where = override.path.slice(0, depth).join('.') || 'the run file';
  if (value === undefined || value === null) {
    const made: unknown = /^\d+$/.test(step) ? [] : {};
    put(holder, key, made);
    return enter(holder, key, step, override, depth);
  }
  if (Array.isArray(value)) {
    const index = /^\d+$/.test(step) ? Number(step) : Number.NaN;
    // One past the end appends a rule.
    if (index <= value.length) return value as unknown as Holder;
    const range =
      value.length === 0
        ? 'is empty; 0 appends to it'
        : `takes an index from 0 to ${value.length - 1}, or ${value.length} to append`;
    throw fail(override, `${where} is a list and ${range}, is ${JSON.stringify(step)}`);
  }
  if (typeof value === 'object') return value as Holder;
  const keys = Object.keys(holder);
  const near = nearest(
    key,
    keys.filter((each) => each !== key),
  );
  throw fail(
    override,
    `${where} is ${JSON.stringify(value)} and has no keys${near === undefined ? '' : `; did you mean ${near}?`}`,
  );
}

function put(holder: Holder, key: string, value: unknown): void {
  // Not an assignment: a key such as __proto__ must stay data.
  Object.defineProperty(holder, key, { value, writable: true, enumerable: true, configurable: true });
}

function fail({ text }: Override, message: string): WhittleError {
  return new WhittleError('RUN_FILE', `--set ${text}: ${message}`, { data: { set: text } });
}
