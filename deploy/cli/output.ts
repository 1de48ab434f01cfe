import { styleText } from 'node:util';

/** The formats commands use; more would make the output a Christmas tree. */
export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** Where a command's text goes. Under `--json` stdout carries JSON lines only and all else goes to stderr. */
export interface Output {
  readonly json: boolean;
  /** True where stdout (stderr under `--json`) is a terminal and NO_COLOR is not set. */
  readonly color: boolean;
  /** A line for people: stdout, or stderr under `--json`. */
  line(text?: string): void;
  /** Progress, always on stderr. */
  progress(text: string): void;
  /** `warning: text`, always on stderr. */
  warn(text: string): void;
  /** `note: text`, always on stderr: worth knowing, nothing is wrong. */
  note(text: string): void;
  /** The command's result: one line of JSON under `--json`, else what `human` returns. */
  result(value: unknown, human: () => string): void;
  /** Colors the text where colors are on, else returns it as it is. */
  style(style: Style | readonly Style[], text: string): string;
}

export interface Streams {
  readonly stdout: { write(text: string): unknown; readonly isTTY?: boolean | undefined };
  readonly stderr: { write(text: string): unknown; readonly isTTY?: boolean | undefined };
  readonly env: Readonly<Record<string, string | undefined>>;
}

export function createOutput(streams: Streams, json: boolean): Output {
  const lineStream = json ? streams.stderr : streams.stdout;
  const color = wantsColor(lineStream.isTTY === true, streams.env);
  const warnColor = wantsColor(streams.stderr.isTTY === true, streams.env);
  return {
    json,
    color,
    line: (text = '') => void lineStream.write(`${text}\n`),
    progress: (text) => void streams.stderr.write(`${text}\n`),
    warn: (text) => void streams.stderr.write(`${paint(warnColor, 'yellow', 'warning:')} ${text}\n`),
    note: (text) => void streams.stderr.write(`${paint(warnColor, 'cyan', 'note:')} ${text}\n`),
    result: (value, human) => void streams.stdout.write(json ? `${JSON.stringify(value)}\n` : withNewline(human())),
    style: (style, text) => paint(color, style, text),
  };
}

/** FORCE_COLOR wins over NO_COLOR, as in Node itself; see https://no-color.org. */
export function wantsColor(isTTY: boolean, env: Streams['env']): boolean {
  const forced = env['FORCE_COLOR'];
  if (forced !== undefined) return forced !== '0' && forced !== 'false';
  if (env['NO_COLOR'] !== undefined && env['NO_COLOR'] !== '') return false;
  return isTTY && env['TERM'] !== 'dumb';
}

export function paint(color: boolean, style: Style | readonly Style[], text: string): string {
  if (!color) return text;
  return [style].flat().reduce((inner: string, each) => styleText(each, inner, { validateStream: false }), text);
}

function withNewline(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
