import type { CommandEntry } from '../../../deploy/cli/registry.ts';

export interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a command line in this process. All through import(): mocha requires test files, which makes their static
 * imports CommonJS twins of what the commands import, with a WhittleError of their own.
 */
export async function cli(
  argv: readonly string[],
  entries?: readonly CommandEntry[],
  isTTY = false,
  env = {},
): Promise<CliResult> {
  const { runCli } = await import('../../../deploy/cli/program.ts');
  let stdout = '';
  let stderr = '';
  const exitCode = await runCli(
    argv,
    {
      stdout: { write: (text: string) => (stdout += text), isTTY },
      stderr: { write: (text: string) => (stderr += text), isTTY },
      env,
    },
    entries,
  );
  return { exitCode, stdout, stderr };
}
