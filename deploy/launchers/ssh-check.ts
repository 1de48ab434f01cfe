import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { WhittleError } from '../../shared/errors.ts';
import type { SshHost } from './hostfile.ts';
import { remoteRoleEntry, shellQuote } from './remote-role.ts';
import { nodeOf, sshArguments, type SshSettings, there } from './ssh-host.ts';

/** Milliseconds. */
const CHECK_DEADLINE = 30_000;
const OLDEST_NODE = 20;

/**
 * Looks at every host before anything starts. Errors name the host: ROLE_LOST where it is not reached, USAGE where
 * Node, Whittle or the run directory is not there, INTERRUPTED.
 */
export async function checkHosts(
  hosts: readonly SshHost[],
  runDirectory: string,
  settings: SshSettings,
  signal: AbortSignal,
): Promise<void> {
  await Promise.all(hosts.map((host) => checkHost(host, runDirectory, settings, signal)));
}

async function checkHost(
  host: SshHost,
  runDirectory: string,
  settings: SshSettings,
  signal: AbortSignal,
): Promise<void> {
  const node = nodeOf(host);
  const main = there(remoteRoleEntry().at(-1) ?? '', host);
  const runFile = join(runDirectory, 'run.yaml');
  const [n, m, r] = [node, main, runFile].map(shellQuote);
  const script = `command -v ${n} >/dev/null || { echo whittle:no-node; exit; }; test -r ${m} || { echo whittle:no-whittle; exit; }; test -r ${r} || { echo whittle:no-run; exit; }; echo whittle:$(${n} -p process.versions.node)`;
  const answer = await ask(
    host,
    [...sshArguments(host, settings), `exec sh -c ${shellQuote(script)}`],
    settings,
    signal,
  );
  const at = `host ${host.target}`;
  const refuse = (message: string): WhittleError =>
    new WhittleError('USAGE', `${at} ${message}`, { data: { host: host.target, answer } });
  if (answer === 'no-node')
    throw refuse(
      `has no ${node}; install Node ${OLDEST_NODE} or newer there, or say where it is in the hostfile: node=PATH`,
    );
  if (answer === 'no-whittle')
    throw refuse(
      `has no ${main}; Whittle must lie where it lies here, or say where it is in the hostfile: whittle=FOLDER`,
    );
  if (answer === 'no-run')
    throw refuse(
      `does not see ${runFile}; the run directory must lie on storage that all hosts share under one path (--runs-dir)`,
    );
  if (Number.parseInt(answer, 10) < OLDEST_NODE || !/^\d+\./.test(answer))
    throw refuse(`has Node ${answer} as ${node}; Whittle needs ${OLDEST_NODE}.19 or newer`);
}

function ask(host: SshHost, argv: readonly string[], settings: SshSettings, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('ssh', argv, { timeout: CHECK_DEADLINE, signal }, (error, stdout, stderr) => {
      const found = /^whittle:(.*)$/m.exec(stdout)?.[1];
      if (found !== undefined) return resolve(found.trim());
      if (signal.aborted)
        return reject(
          new WhittleError('INTERRUPTED', 'interrupted while the hosts were looked at; nothing was started'),
        );
      if (error?.code === 'ENOENT')
        return reject(new WhittleError('USAGE', 'there is no ssh client here; install one (such as openssh-client)'));
      const port = host.port === null ? '' : ` (port ${host.port})`;
      const why =
        error?.killed === true ? `no answer in ${CHECK_DEADLINE / 1000} s` : lastLine(stderr) || error?.message;
      return reject(
        new WhittleError(
          'ROLE_LOST',
          `host ${host.target}${port} is not reached by ssh: ${why ?? 'it answered nothing'}; check its line in the hostfile: \`${tryOf(host, settings)}\` must work without a question`,
          { data: { host: host.target } },
        ),
      );
    });
  });
}

/** What somebody types to see for themselves. */
function tryOf(host: SshHost, settings: SshSettings): string {
  const port = host.port === null ? [] : ['-p', String(host.port)];
  const options = host.options.flatMap((each) => ['-o', each]);
  return ['ssh', ...settings.arguments, ...options, ...port, host.target, 'true']
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : shellQuote(word)))
    .join(' ');
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.trim() ?? '';
}
