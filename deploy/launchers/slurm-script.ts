import { join } from 'node:path';
import type { RunSize } from './slurm-placement.ts';
import { nodeNeeds } from './slurm-placement.ts';
import { SIGNAL_SECONDS, type SlurmOptions } from './slurm-options.ts';

export interface JobScriptInput {
  readonly runId: string;
  /** Absolute, on storage that all nodes share. */
  readonly runDirectory: string;
  readonly size: RunSize;
  readonly options: SlurmOptions;
  /** The supervisor's command line; its first word is the absolute path of a program. */
  readonly command: readonly string[];
}

/** The batch script of a run: its `#SBATCH` lines, and the supervisor in the shell's own place. */
export function jobScript({ runId, runDirectory, size, options, command }: JobScriptInput): string {
  const needs = nodeNeeds(size, options);
  const lines = [
    `--job-name=${runId}`,
    `--output=${pathPattern(join(runDirectory, 'logs', 'slurm-%j.out')).replace('slurm-%%j', 'slurm-%j')}`,
    // A requeued job goes on in the same file.
    '--open-mode=append',
    `--nodes=${options.nodes}`,
    '--ntasks-per-node=1',
    `--cpus-per-task=${needs.cpus}`,
    ...(needs.megabytes === null ? [] : [`--mem=${needs.megabytes}M`]),
    ...(needs.gres === null ? [] : [`--gres=${needs.gres}`]),
    ...(options.time === null ? [] : [`--time=${options.time}`]),
    ...(options.partition === null ? [] : [`--partition=${options.partition}`]),
    ...(options.account === null ? [] : [`--account=${options.account}`]),
    // To the batch shell only (B): the supervisor asks the run for a checkpoint, the roles go on meanwhile.
    `--signal=B:USR1@${SIGNAL_SECONDS}`,
    options.requeue ? '--requeue' : '--no-requeue',
    ...options.extra,
  ];
  return [
    '#!/bin/bash',
    `# The Slurm job of run ${runId}. Written by \`whittle launch --on slurm\`.`,
    ...lines.map((line) => `#SBATCH ${line}`),
    // exec: the supervisor gets the signals that Slurm sends to the batch shell.
    `exec ${command.map(shellQuote).join(' ')}`,
    '',
  ].join('\n');
}

/** A word for bash, whatever is in it. */
export function shellQuote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A path in a `#SBATCH` line, where `%` begins a pattern and blanks end an argument unless they are quoted. */
function pathPattern(path: string): string {
  const escaped = path.replaceAll('%', '%%');
  return /^[\w@%+=:,./-]+$/.test(escaped) ? escaped : `"${escaped.replace(/["\\]/g, (each) => `\\${each}`)}"`;
}
