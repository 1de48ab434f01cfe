import type { Output } from './output.ts';

/** A positional argument. Its key in `arguments` is its name in the handler; `label` is what help shows. */
export interface ArgumentDefinition {
  readonly description: string;
  /** Shown in help, such as `run.yaml`. Default: the key. */
  readonly label?: string;
  readonly optional?: boolean;
}

interface OptionBase {
  /** Meaning, unit and range; the default is added by help. */
  readonly description: string;
  /** One letter, such as `f` for `-f`. */
  readonly short?: string;
  /** Not in help: for launchers and tests. */
  readonly hidden?: boolean;
}

/** An option. Its key `runId` becomes `--run-id`; `label` names the value in help. */
export type OptionDefinition =
  | (OptionBase & { readonly type: 'boolean' })
  | (OptionBase & {
      readonly type: 'string';
      readonly label?: string;
      readonly default?: string;
      readonly choices?: readonly string[];
    })
  /** May be given several times. */
  | (OptionBase & { readonly type: 'strings'; readonly label?: string })
  | (OptionBase & {
      readonly type: 'integer' | 'number';
      readonly label?: string;
      readonly default?: number;
      /** Inclusive bounds. */
      readonly min?: number;
      readonly max?: number;
    });

export type ArgumentDefinitions = Readonly<Record<string, ArgumentDefinition>>;
export type OptionDefinitions = Readonly<Record<string, OptionDefinition>>;

type ArgumentValue<A extends ArgumentDefinition> = A extends { readonly optional: true } ? string | undefined : string;
type Scalar<O, V> = O extends { readonly default: V } ? V : V | undefined;
type OptionValue<O extends OptionDefinition> = O['type'] extends 'boolean'
  ? boolean
  : O['type'] extends 'strings'
    ? readonly string[]
    : O['type'] extends 'string'
      ? Scalar<O, string>
      : Scalar<O, number>;

/** The values that options take, by their definitions. */
export type OptionValues<O extends OptionDefinitions> = { readonly [K in keyof O]: OptionValue<O[K]> };

/** What a handler gets. */
export interface Context<
  A extends ArgumentDefinitions = ArgumentDefinitions,
  O extends OptionDefinitions = OptionDefinitions,
> {
  readonly arguments: { readonly [K in keyof A]: ArgumentValue<A[K]> };
  readonly options: OptionValues<O>;
  /** True under `--json`: stdout then carries JSON only. */
  readonly json: boolean;
  readonly output: Output;
  /**
   * Aborted by the first SIGINT or SIGTERM; a second SIGINT ends the process with 130, unless `killSignal` was read.
   * The handlers are installed when this is first read: a command that never reads it dies on Ctrl-C like any
   * program.
   */
  readonly signal: AbortSignal;
  /** Aborted by the second SIGINT. Once this was read, only a third one ends the process. */
  readonly killSignal: AbortSignal;
}

export interface CommandDefinition<A extends ArgumentDefinitions, O extends OptionDefinitions> {
  readonly name: string;
  /** First line: one sentence. More lines may follow; help shows all. */
  readonly description: string;
  readonly arguments?: A;
  readonly options?: O;
  /** At least one: a command line as typed after `whittle `, and what it does. */
  readonly examples: readonly [Example, ...Example[]];
  /** Resolves to the exit code; nothing means 0. Throws WhittleError for what the user can mend. */
  readonly handler: (context: Context<A, O>) => Promise<number | void>;
}
export interface Example {
  readonly command: string;
  readonly effect: string;
}

/** A command whose argument and option types are known only to its handler. */
export interface Command {
  readonly name: string;
  readonly description: string;
  readonly arguments: ArgumentDefinitions;
  readonly options: OptionDefinitions;
  readonly examples: readonly Example[];
  readonly handler: (context: Context<never, never>) => Promise<number | void>;
}

/** Declares a command: parsing, `--help` and `--json` all come from this object. */
export function defineCommand<
  const A extends ArgumentDefinitions = Record<never, never>,
  const O extends OptionDefinitions = Record<never, never>,
>(definition: CommandDefinition<A, O>): Command {
  return {
    name: definition.name,
    description: definition.description,
    arguments: definition.arguments ?? {},
    options: definition.options ?? {},
    examples: definition.examples,
    // The program builds the context from these same definitions, so the types hold.
    handler: definition.handler,
  };
}

/** `runId` -> `run-id`. */
export function kebabCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** Exists so that every command spells the run file's overrides in one way. */
export const setOption = {
  type: 'strings',
  label: 'path=value',
  description: 'override a key of the run file; the value is YAML, list items by index; repeatable',
} as const satisfies OptionDefinition;
