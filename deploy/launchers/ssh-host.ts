import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../shared/package-root.ts';
import { listenArguments, type SshHost } from './hostfile.ts';
import type { RoleExit } from './launcher.ts';
import { ALIVE_EVERY, type RemoteJob, remoteRoleEntry, shellQuote } from './remote-role.ts';
import { type ChildRole, type RoleProcess, startRole } from './role-process.ts';
import type { RoleHost } from './role-host.ts';

export interface SshSettings {
  /** Arguments for every call of ssh, before the host. */
  readonly arguments: readonly string[];
  /** Added to the environment of the roles. */
  readonly env: Readonly<Record<string, string>>;
  /** What follows Node before the role command. */
  readonly entry: readonly string[];
}

/** What ssh itself exits with: the host was not reached, or the connection broke. */
const SSH_ERROR_CODE = 255;
/** Milliseconds for a role to be over after SIGKILL before its connection is cut. */
const KILL_DEADLINE = 5_000;

/** Arguments of the system's ssh client for a host: never a question, a broken connection is noticed in 30 s. */
export function sshArguments(host: SshHost, settings: Pick<SshSettings, 'arguments'>): string[] {
  const options = [
    'BatchMode=yes',
    'ConnectTimeout=10',
    'ServerAliveInterval=10',
    'ServerAliveCountMax=3',
    'LogLevel=ERROR',
    ...host.options,
  ];
  return [
    '-T',
    ...settings.arguments,
    ...options.flatMap((each) => ['-o', each]),
    ...(host.port === null ? [] : ['-p', String(host.port)]),
    host.target,
  ];
}

/** Starts each role over an ssh connection of its own, which is its lifeline. */
export function createSshHost(
  place: (role: RoleProcess['role'], rank: number) => SshHost,
  hosts: readonly SshHost[],
  settings: SshSettings,
): RoleHost {
  return {
    start: async ({ role, rank, args, outputFile }) => {
      const host = place(role, rank);
      const token = randomBytes(8).toString('hex');
      const file = join(dirname(outputFile), `${role}-${rank}.place`);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, token);
      const job: RemoteJob = {
        argv: [...settings.entry.map((each) => there(each, host)), role, ...listenArguments(host, hosts), ...args],
        cwd: process.cwd(),
        env: settings.env,
        place: { file, token },
      };
      const remote = [nodeOf(host), ...remoteRoleEntry().map((each) => there(each, host)), file];
      const started = await startRole({
        role,
        rank,
        command: 'ssh',
        argv: [...sshArguments(host, settings), `exec ${remote.map(shellQuote).join(' ')}`],
        outputFile,
      });
      started.send(`${JSON.stringify(job)}\n`);
      return asRemote(started);
    },
  };
}

export function nodeOf(host: SshHost): string {
  return host.node ?? process.execPath;
}

/** A path of this installation, on a host where it lies elsewhere. */
export function there(path: string, host: SshHost): string {
  return host.whittle === null ? path : path.replace(packageRoot, host.whittle.replace(/\/$/, ''));
}

/** The ssh client stands for the role it started: its exit is the role's, and signals go through it. */
function asRemote(client: ChildRole): RoleProcess {
  const alive = setInterval(() => client.send('.\n'), ALIVE_EVERY);
  alive.unref();
  let ended: RoleExit | null = null;
  const exit = client.exit.then((exit) => {
    clearInterval(alive);
    return (ended = roleExit(exit));
  });
  return {
    ...client,
    exit,
    ended: () => ended,
    kill: (signal) => {
      client.send(`${signal}\n`);
      if (signal === 'SIGKILL') setTimeout(() => client.kill(signal), KILL_DEADLINE).unref();
    },
  };
}

function roleExit({ code, signal }: RoleExit): RoleExit {
  if (code === null || code <= 128 || code === SSH_ERROR_CODE) return { code, signal };
  const [name] = Object.entries(constants.signals).find(([, number]) => number === code - 128) ?? [];
  return name === undefined ? { code, signal } : { code: null, signal: name };
}
