import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node } from 'yaml';
import { WhittleError } from '../errors.ts';
import { commandLine } from '../invocation.ts';
import { applyOverrides, parseOverride, type Override } from './overrides.ts';

export type Path = readonly (string | number)[];

/** Something wrong at a key of the run file. `key`: the fault is this key itself, within `path`. */
export interface Problem {
  readonly path: Path;
  readonly message: string;
  readonly key?: string;
}

interface Place {
  readonly line: number;
  readonly column: number;
}

/** Larger than any run file; a bound before anything is parsed. */
const MAX_CHARACTERS = 1 << 20;

/** The text of a run file with its overrides, and where in it each key stands. */
export class RunFileSource {
  /** The path as the user gave it. */
  readonly label: string;
  /** The document as plain data, overrides applied. */
  readonly value: unknown;
  readonly #text: string;
  readonly #document: Document;
  readonly #lines = new LineCounter();
  readonly #overrides: readonly Override[];

  /** Throws RUN_FILE for text that is no YAML mapping, and for overrides that do not fit the document. */
  constructor(label: string, text: string, set: readonly string[] = []) {
    this.label = label;
    this.#text = text;
    if (text.length > MAX_CHARACTERS)
      throw new WhittleError(
        'RUN_FILE',
        `${label} has ${text.length} characters, more than the ${MAX_CHARACTERS} a run file may have`,
      );
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
    const faults = [...this.#document.errors, ...this.#document.warnings];
    if (faults.length > 0) {
      // One slip makes the parser stumble over the rest of its line: the first of a line tells what it was.
      const lines = new Set<number>();
      const first = faults.filter(({ pos }) => {
        const { line } = this.#place(pos[0]);
        return lines.has(line) ? false : lines.add(line);
      });
      throw this.#fail(
        first.map(({ code, message, pos }) => ({
          message: this.#syntaxMessage(code, message, pos[0]),
          place: this.#place(pos[0]),
        })),
      );
    }
    this.#overrides = set.map((each) => parseOverride(each));
    if (this.#document.contents === null) {
      throw this.#fail([
        {
          message: `the file is empty; \`${commandLine('init')}\` writes one to start from`,
          place: { line: 1, column: 1 },
        },
      ]);
    }
    let value: unknown;
    try {
      value = this.#document.toJS();
    } catch (cause) {
      // Anchors that blow up ("billion laughs") and aliases without an anchor end here.
      const message = cause instanceof Error ? cause.message : String(cause);
      throw this.#fail([{ message, place: { line: 1, column: 1 } }]);
    }
    this.value = applyOverrides(value, this.#overrides);
  }

  /** One RUN_FILE error with every problem at its place, in the order of the file. */
  error(problems: readonly Problem[]): WhittleError {
    return this.#fail(
      problems.map((problem) => ({ message: problem.message, path: problem.path, ...this.#locate(problem) })),
    );
  }

  /** True where the user wrote this key, in the file or with --set. */
  has(path: Path): boolean {
    let value = this.value;
    for (const step of path) {
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return false;
      value = (value as Record<string | number, unknown>)[step];
    }
    return true;
  }

  #locate({ path, key }: Problem): { place?: Place; override?: Override } {
    const full = key === undefined ? path : [...path, key];
    const { offset, depth } = this.#find(path, key);
    // An override is to blame for what it set, and for what the file does not have and it brought in.
    const override = this.#overrides.findLast(({ path: set }) => {
      const shared = set.findIndex((step, k) => step !== String(full[k]));
      return shared === -1 ? set.length <= full.length || depth < full.length : shared > depth;
    });
    return override === undefined ? { place: this.#place(offset) } : { override };
  }

  /** Offset of the value at the path (of the key, where asked or where the value is missing), and how deep the file goes. */
  #find(path: Path, key?: string): { offset: number; depth: number } {
    let depth = 0;
    let node = this.#document.contents;
    let offset = node?.range?.[0] ?? 0;
    for (const step of key === undefined ? path : [...path, key]) {
      if (isAlias(node)) node = node.resolve(this.#document) ?? null;
      let next: Node | null = null;
      if (isMap(node)) {
        const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step));
        if (pair === undefined) break;
        const keyNode = pair.key as Node;
        next = pair.value as Node | null;
        const isEmpty = next === null || (isScalar(next) && next.value === null);
        offset = (step === key || isEmpty ? keyNode : (next as Node)).range?.[0] ?? offset;
        // A missing key is reported at the key that should hold it, not at the first line under it.
        if (isMap(next) && !next.flow) offset = keyNode.range?.[0] ?? offset;
      } else if (isSeq(node)) {
        next = (node.items[Number(step)] as Node | undefined) ?? null;
        if (next === null) break;
        offset = next.range?.[0] ?? offset;
      } else break;
      node = next;
      depth++;
    }
    return { offset, depth };
  }

  #place(offset: number): Place {
    const { line, col } = this.#lines.linePos(Math.min(offset, this.#text.length));
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  #syntaxMessage(code: string, message: string, offset: number): string {
    if (code !== 'DUPLICATE_KEY') return message.replace(/\n[\s\S]*$/, '').replace(/:$/, '');
    const key = /^[^\s:,}]+/.exec(this.#text.slice(offset))?.[0] ?? '';
    return `duplicate key ${JSON.stringify(key)}; remove one of the two`;
  }

  #fail(found: readonly { message: string; path?: Path; place?: Place; override?: Override }[]): WhittleError {
    const problems = [...found].sort(
      (a, b) => (a.place?.line ?? 0) - (b.place?.line ?? 0) || (a.place?.column ?? 0) - (b.place?.column ?? 0),
    );
    const shown = problems.map(({ message, place, override }) => {
      if (place === undefined) return `--set ${override?.text ?? ''}: ${message}`;
      const source = this.#text.split('\n')[place.line - 1]?.trimEnd() ?? '';
      const number = String(place.line);
      // Long lines are cut around the column.
      const from = source.length > 160 ? Math.max(0, place.column - 80) : 0;
      const gutter = ' '.repeat(number.length);
      const excerpt =
        source === ''
          ? ''
          : `\n  ${number} | ${source.slice(from, from + 160)}\n  ${gutter} | ${' '.repeat(place.column - 1 - from)}^`;
      return `${this.label}:${place.line}:${place.column}: ${message}${excerpt}`;
    });
    const head = problems.length === 1 ? '' : `${problems.length} problems in ${this.label}\n`;
    return new WhittleError('RUN_FILE', head + shown.join('\n'), {
      data: {
        file: this.label,
        problems: problems.map(({ message, path, place, override }) => ({
          message,
          ...(path === undefined ? {} : { path: path.join('.') }),
          ...(place === undefined ? { set: override?.text } : place),
        })),
      },
    });
  }
}
