import { parse } from 'yaml';

/*
 * The reference of the run file in deploy/examples/README.md, from the JSON schema and the examples: nothing of it is written by
 * hand, and a test compares.
 */

/** What is read of a node of the JSON schema. */
interface Node {
  readonly type?: string;
  readonly const?: string | number | boolean;
  readonly enum?: readonly (string | number | boolean)[];
  readonly description?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly items?: Node | readonly Node[];
  readonly anyOf?: readonly Node[];
  readonly oneOf?: readonly Node[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
}

interface Row {
  readonly path: string;
  readonly type: string;
  readonly fallback: string;
  readonly meaning: string;
  /** The kinds of mapping that have the key; empty: it is there whatever the kind. */
  readonly kinds: readonly string[];
}

export interface Example {
  /** Its file in deploy/examples. */
  readonly name: string;
  readonly text: string;
}

const LARGEST = 2 ** 31 - 1;
/** Keys that say how a model is trained and made small; others say what is trained, where, and with what beside it. */
const TECHNIQUES: ReadonlySet<string> = new Set(['consistency', 'training', 'sparsity', 'wire']);
const NO_TECHNIQUES: ReadonlySet<string> = new Set(['name', 'faults', 'history']);

/** Markdown. `schema`: of `runFileJsonSchema`. */
export function runFileReference(schema: object, examples: readonly Example[]): string {
  const root = schema as Node;
  const told = new Map<string, string>();
  const sections = Object.entries(root.properties ?? {}).map(([key, node]) =>
    section(key, node, root.required?.includes(key) === true, told),
  );
  return [
    '# The run file',
    '',
    'YAML; unknown keys are errors. `whittle init` writes one with comments, `whittle init --list` names the examples,',
    '`whittle config FILE` prints what a file comes to, and `--set training.steps=100` overrides any key (items of lists',
    'by their index: `--set sparsity.0.scope=layer`). `a[].b` below is the key `b` of each item of the list `a`.',
    '',
    ...sections,
    '## Examples',
    '',
    '`whittle launch deploy/examples/FILE` runs one, `whittle init DIR --example NAME` makes a copy of your own. Those that go on from a trained model name the one to run first at their head; fashion-mnist.yaml needs its data.',
    '',
    table(
      ['Key', 'Value', 'Example'],
      [...examplesOf(techniques(schema), examples)].map(([feature, example]) => {
        const [path = '', value = ''] = feature.split(': ');
        return [code(path), value === '' ? '' : code(value), `[${example}](${example})`];
      }),
    ),
    '',
  ].join('\n');
}

/**
 * Every technique there is: `path: value` for each word that a key may be, `path` for what is off where the key is
 * absent. Keys that a run file may leave out as a whole are techniques as a whole.
 */
export function techniques(schema: object): string[] {
  const { properties = {}, required = [] } = schema as Node;
  return Object.entries(properties).flatMap(([key, node]) => {
    if (TECHNIQUES.has(key)) return children(key, node).flatMap(features);
    return isOff(node) && !required.includes(key) && !NO_TECHNIQUES.has(key) ? [key] : [];
  });
}

/** For each technique the shortest example that has it, one that is named after it before others. */
export function examplesOf(features: readonly string[], examples: readonly Example[]): Map<string, string> {
  const parsed = examples.map(({ name, text }) => ({ name, length: text.length, has: used('', parse(text)) }));
  const found = new Map<string, string>();
  for (const feature of features) {
    const word = feature.split(/[.: ]+/).at(-1) ?? '';
    const rank = ({ name, length }: { name: string; length: number }): number => (name === `${word}.yaml` ? 0 : length);
    const having = parsed.filter(({ has }) => has.has(feature)).sort((a, b) => rank(a) - rank(b));
    if (having[0]) found.set(feature, having[0].name);
  }
  return found;
}

/** All keys and words that a parsed run file makes use of. */
function used(path: string, value: unknown): Set<string> {
  if (Array.isArray(value)) return new Set([path, ...value.flatMap((item) => [...used(`${path}[]`, item)])]);
  if (typeof value !== 'object' || value === null) return new Set([path, `${path}: ${String(value)}`]);
  const below = Object.entries(value).flatMap(([key, each]) => [...used(path === '' ? key : `${path}.${key}`, each)]);
  return new Set([path, ...below]);
}

function features({ path, node, isRequired, kind }: Child): string[] {
  if (isKind({ path, kind })) return [`${path}: ${kind}`];
  const words = wordsOf(node);
  if (words.length === 0 && !isRequired && isOff(node)) return [path];
  const below = children(path, node);
  const forms = below.filter(({ isForm }) => isForm);
  if (forms.length > 0) return [...words.map((word) => `${path}: ${word}`), ...forms.map((form) => form.path)];
  return unique([...words.map((word) => `${path}: ${word}`), ...below.flatMap(features)]);
}

function unique(words: readonly string[]): string[] {
  return [...new Set(words)];
}

/** Where the key is absent there is nothing of it. */
function isOff({ default: value }: Node): boolean {
  return value === undefined || value === null || value === 0 || value === false;
}

/** Words that a value may be, those of kinds among them. */
function wordsOf(node: Node): string[] {
  const own = [...(node.enum ?? []), ...(node.const === undefined ? [] : [node.const])];
  return [...own.filter((word): word is string => typeof word === 'string'), ...(node.anyOf ?? []).flatMap(wordsOf)];
}

interface Child {
  readonly path: string;
  readonly node: Node;
  /** Of the mapping that has it; empty where mappings are not told apart so. */
  readonly kind: string;
  readonly isRequired: boolean;
  /** It tells its mapping from others without a kind. */
  readonly isForm: boolean;
}

/** Those of all alternatives and of the items of a list. */
function children(path: string, node: Node): Child[] {
  if (node.type === 'array' && node.items !== undefined)
    return Array.isArray(node.items) ? [] : children(`${path}[]`, node.items as Node);
  const mappings = alternatives(node).filter(({ properties }) => properties !== undefined);
  return mappings.flatMap(({ properties = {}, required = [] }) => {
    const kind = properties['kind']?.const;
    return Object.entries(properties).map(([key, child]) => ({
      path: `${path}.${key}`,
      node: child,
      kind: typeof kind === 'string' ? kind : '',
      isRequired: required.includes(key),
      isForm: required.includes(key) && typeof kind !== 'string' && mappings.length > 1,
    }));
  });
}

function alternatives(node: Node): readonly Node[] {
  const several = node.oneOf ?? node.anyOf;
  return several === undefined ? [node] : several.flatMap(alternatives);
}

/** `told`: paths of the mappings that were described before, by what they are. */
function section(key: string, node: Node, isRequired: boolean, told: Map<string, string>): string {
  const rows = [rowOf({ path: key, node, isRequired, isForm: false, kind: '' }), ...rowsOf(key, node, told)];
  return [
    `## ${key}`,
    '',
    table(
      ['Key', 'Type', 'Default', 'Meaning'],
      rows.map(({ path, type, fallback, meaning, kinds }) => [
        code(path),
        type,
        fallback,
        kinds.length === 0 ? meaning : `${kinds.map(code).join(', ')}: ${meaning}`,
      ]),
    ),
    '',
  ].join('\n');
}

/** One row for a key and meaning; kinds that share them share it. */
function rowsOf(path: string, node: Node, told: Map<string, string>): Row[] {
  const all = children(path, node);
  const numKinds = new Set(all.map(({ kind }) => kind)).size;
  const groups = new Map<string, Child[]>();
  for (const child of all) {
    const id = isKind(child) ? child.path : `${child.path} ${JSON.stringify(child.node)} ${child.isRequired}`;
    groups.set(id, [...(groups.get(id) ?? []), child]);
  }
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const kinds = group.map(({ kind }) => kind);
    if (isKind(first)) {
      const type = kinds.map(code).join(', ');
      return [{ path: first.path, type, fallback: 'required', meaning: 'which of these', kinds: [] }];
    }
    const row = { ...rowOf(first), kinds: kinds[0] !== '' && kinds.length < numKinds ? kinds : [] };
    const what = JSON.stringify(children('', first.node), (key, value: unknown) =>
      key === 'description' ? undefined : value,
    );
    const before = told.get(what);
    if (before !== undefined) return [{ ...row, meaning: `${row.meaning}; keys as in ${code(before)}` }];
    const below = rowsOf(first.path, first.node, told);
    if (below.length > 2) told.set(what, first.path);
    return [row, ...below];
  });
}

function isKind({ path, kind }: Pick<Child, 'path' | 'kind'>): boolean {
  return kind !== '' && path.endsWith('.kind');
}

function rowOf({ path, node, isRequired, isForm }: Child): Row {
  const texts = [node.description ?? '', ...alternatives(node).map(({ description = '' }) => description)];
  const about = texts[0] || texts.reduce((longest, text) => (text.length > longest.length ? text : longest), '');
  const [, before = about, told] = /^(.*?)[;,]?\s*\bdefault:? ([^;]+)$/.exec(about) ?? [];
  const value = JSON.stringify(node.default ?? null);
  const own = ['null', '{}', '[]'].includes(value) ? '' : value;
  const fallback = isForm ? '' : isRequired ? 'required' : (told ?? own);
  return { path, type: typeOf(node), fallback, meaning: before, kinds: [] };
}

function typeOf(node: Node): string {
  if (node.enum !== undefined) return node.enum.map((word) => code(String(word))).join(', ');
  if (node.const !== undefined) return code(String(node.const));
  if (node.oneOf ?? node.anyOf) return [...new Set(alternatives(node).map(typeOf))].join(' or ');
  switch (node.type) {
    case 'integer':
      return `whole number${range(node)}`;
    case 'number':
      return `number${range(node)}`;
    case 'boolean':
      return '`true`, `false`';
    case 'array':
      return 'list';
    case 'object':
      return 'mapping';
    case 'null':
      return '`null`';
    default:
      return 'text';
  }
}

function range({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }: Node): string {
  const bounds = [
    ...(minimum === undefined || minimum <= -LARGEST ? [] : [`>= ${minimum}`]),
    ...(exclusiveMinimum === undefined ? [] : [`> ${exclusiveMinimum}`]),
    ...(maximum === undefined || maximum >= LARGEST ? [] : [`<= ${maximum}`]),
    ...(exclusiveMaximum === undefined ? [] : [`< ${exclusiveMaximum}`]),
  ];
  return bounds.length === 0 ? '' : ` ${bounds.join(', ')}`;
}

function code(text: string): string {
  return `\`${text}\``;
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(titles), line(titles.map(() => '---')), ...rows.map(line)].join('\n');
}
