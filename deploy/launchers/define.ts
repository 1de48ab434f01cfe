import type { OptionDefinition, OptionDefinitions, OptionValues } from '../cli/command.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { Launcher } from './launcher.ts';

/** A launcher's own options have no default in their definition: one that was not given must be seen to be absent. */
export type LauncherOptionDefinitions = Readonly<Record<string, OptionDefinition & { readonly default?: never }>>;

/** Values by key, as the command line gives them. JSON, so that they reach a detached supervisor. */
export type LauncherOptions = Readonly<Record<string, unknown>>;

/** What `--on` may say, and the options of `launch` and `resume` that come with it. */
export interface LauncherDefinition {
  readonly name: string;
  /** Where the processes run, for help: "as processes of this machine". */
  readonly summary: string;
  readonly options: LauncherOptionDefinitions;
  /** `options` has every key of the definition's. Errors: USAGE for what is missing or contradicts. */
  readonly create: (options: LauncherOptions) => Launcher;
}

/** Declares a launcher; `create` gets its options' values by their definitions. */
export function defineLauncher<const O extends LauncherOptionDefinitions>(definition: {
  readonly name: string;
  readonly summary: string;
  readonly options: O;
  readonly create: (options: OptionValues<O>) => Launcher;
}): LauncherDefinition {
  // launcherOptionsOf picks the values by these same definitions, so the types hold.
  return { ...definition, create: (options) => definition.create(options as OptionValues<O>) };
}

type Definitions = Readonly<Record<string, LauncherDefinition>>;

/**
 * The options of all launchers, for the commands that start runs. Launchers may share an option: then both hold one
 * definition object.
 */
export function allLauncherOptions(launchers: Definitions): OptionDefinitions {
  const all: Record<string, OptionDefinition> = {};
  const owners = new Map<string, string[]>();
  for (const { name, options } of Object.values(launchers)) {
    for (const [key, definition] of Object.entries(options)) {
      const known = all[key];
      if (known !== undefined && known !== definition)
        throw new WhittleError(
          'INTERNAL',
          `launchers ${owners.get(key)?.join(', ')} and ${name} define --${key} apart`,
        );
      all[key] = definition;
      owners.set(key, [...(owners.get(key) ?? []), name]);
    }
  }
  return Object.fromEntries(
    Object.entries(all).map(([key, definition]) => [
      key,
      { ...definition, description: `${definition.description} (--on ${owners.get(key)?.join(', ')})` },
    ]),
  );
}

/** The values of one launcher's options among all values of a command. Errors: USAGE for an option of another launcher. */
export function launcherOptionsOf(launchers: Definitions, on: string, values: LauncherOptions): LauncherOptions {
  const own = launchers[on]?.options ?? {};
  for (const { name, options } of Object.values(launchers)) {
    for (const [key, { type }] of Object.entries(options)) {
      if (Object.hasOwn(own, key) || !isGiven(type, values[key])) continue;
      throw new WhittleError('USAGE', `${optionName(key)} is an option of --on ${name}, and this is --on ${on}`, {
        data: { option: optionName(key), on },
      });
    }
  }
  return Object.fromEntries(Object.entries(own).map(([key, { type }]) => [key, values[key] ?? absentValue(type)]));
}

function isGiven(type: OptionDefinition['type'], value: unknown): boolean {
  if (type === 'boolean') return value === true;
  return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== null;
}

function absentValue(type: OptionDefinition['type']): unknown {
  if (type === 'boolean') return false;
  return type === 'strings' ? [] : undefined;
}

function optionName(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
