import type * as z from 'zod';
import { nearest } from './suggest.ts';
import type { Path, Problem } from './source.ts';

/** Keys of the design that this version does not know yet: better a clear word than "unknown key". */
const NOT_YET_KEYS: ReadonlySet<string> = new Set(['mixedBackends', 'orphanAfterSeconds']);

/** The schema's findings in plain words, one a path. `value` is what was checked. */
export function problemsOf(issues: readonly z.core.$ZodIssue[], value: unknown): Problem[] {
  const problems = issues.flatMap((issue) => fromIssue(issue, [], value));
  const seen = new Set<string>();
  return problems.filter(({ path, key }) => {
    const id = JSON.stringify([path, key]);
    return seen.has(id) ? false : seen.add(id);
  });
}

function fromIssue(issue: z.core.$ZodIssue, base: Path, root: unknown): Problem[] {
  const path: Path = [...base, ...(issue.path as (string | number)[])];
  if (issue.code === 'unrecognized_keys') return unknownKeys(issue.keys, path, issue.message.split(' '), root);
  if (issue.code === 'invalid_union') {
    const inner = meantBranch(issue.errors);
    if (inner !== undefined) return inner.flatMap((each) => fromIssue(each, path, root));
  }
  return [{ path, message: sentence(path, issue.message, valueAt(root, path)) }];
}

function unknownKeys(keys: readonly string[], path: Path, known: readonly string[], root: unknown): Problem[] {
  const holder = valueAt(root, path) as Readonly<Record<string, unknown>>;
  const missing = known.filter((key) => !Object.hasOwn(holder, key));
  const where = path.length === 0 ? '' : ` in ${nameOf(path)}`;
  return keys.map((key) => {
    if (NOT_YET_KEYS.has(key)) return { path, key, message: `${key} is not available in this version; remove it` };
    const near = nearest(key, missing) ?? nearest(key, known);
    const cure = near === undefined ? `known keys: ${known.join(', ')}` : `did you mean ${near}?`;
    return { path, key, message: `unknown key ${JSON.stringify(key)}${where}; ${cure}` };
  });
}

/** The branch of a union the user meant: the only one whose own type fits; undefined where none or several do. */
function meantBranch(branches: readonly (readonly z.core.$ZodIssue[])[]): readonly z.core.$ZodIssue[] | undefined {
  const fits = branches.filter((branch) =>
    branch.every((issue) => issue.path.length > 0 || issue.code === 'unrecognized_keys'),
  );
  if (fits.length <= 1) return fits[0];
  const clean = fits.filter((branch) => branch.every((issue) => issue.path.length > 0));
  return clean.length === 1 ? clean[0] : undefined;
}

function sentence(path: Path, phrase: string, value: unknown): string {
  const [requirement = '', cure] = phrase.split('|');
  const tail = cure === undefined ? '' : `; ${cure}`;
  const name = nameOf(path);
  if (!requirement.startsWith('must ')) return `${name}: ${requirement}${tail}`;
  if (value === undefined) return `${name} is missing; it ${requirement}`;
  return `${name} ${requirement}, is ${show(value)}${tail}`;
}

/** `sparsity.0.schedule`, as --set takes it. */
export function nameOf(path: Path): string {
  return path.length === 0 ? 'the run file' : path.join('.');
}

function show(value: unknown): string {
  if (value === null) return 'empty';
  if (typeof value === 'number') return String(value);
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

export function valueAt(root: unknown, path: Path): unknown {
  let value = root;
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value;
}
