import { resolve } from 'node:path';
import { WhittleError } from '../../shared/errors.ts';
import { defineLauncher } from './define.ts';
import { placeRoles, readHostfile, type SshHost } from './hostfile.ts';
import type { Launcher } from './launcher.ts';
import { ownEntry } from './local.ts';
import type { SuperviseDeadlines } from './role-host.ts';
import { checkHosts } from './ssh-check.ts';
import { createSshHost } from './ssh-host.ts';
import { superviseRun } from './supervise.ts';

/** Variables that reach the roles by themselves, besides those of --env. */
const FORWARDED = /^(WHITTLE_\w+|NODE_OPTIONS|NODE_EXTRA_CA_CERTS|OMP_NUM_THREADS|TF_NUM_\w+)$/;

export interface SshOptions {
  readonly hosts: readonly SshHost[];
  /** Arguments for every call of ssh. */
  readonly sshArguments?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What follows Node before the role command. Default: this package's command line. */
  readonly entry?: readonly string[];
  readonly deadlines?: Partial<SuperviseDeadlines>;
}

/** What `--on ssh` is. */
export const sshLauncher = defineLauncher({
  name: 'ssh',
  summary: 'on the hosts of a hostfile',
  options: {
    hostfile: {
      type: 'string',
      label: 'FILE',
      description: 'hosts, one a line: [user@]host[:port] slots=N address=HOST node=PATH whittle=FOLDER ssh.Key=value',
    },
    sshConfig: { type: 'string', label: 'FILE', description: 'configuration file for ssh; default: that of the user' },
    env: {
      type: 'strings',
      label: 'NAME[=VALUE]',
      description: 'environment variable for the roles, besides WHITTLE_*; repeatable',
    },
  },
  create: ({ hostfile, sshConfig, env }) => {
    if (hostfile === undefined)
      throw new WhittleError('USAGE', '--on ssh needs --hostfile FILE, with a host a line such as "node1 slots=4"');
    return createSshLauncher({
      hosts: readHostfile(hostfile),
      sshArguments: sshConfig === undefined ? [] : ['-F', resolve(sshConfig)],
      env: forwardedEnvironment(env, process.env),
    });
  },
});

/** Runs the roles on several machines that share the run directory, each over an ssh connection of its own. */
export function createSshLauncher(options: SshOptions): Launcher {
  const { hosts, sshArguments = [], env = {}, entry = ownEntry(), deadlines = {} } = options;
  const settings = { arguments: sshArguments, env, entry };
  return {
    name: 'ssh',
    start: async (plan, signal, tell) => {
      const place = placeRoles(hosts, plan);
      await checkHosts(hosts, plan.runDirectory, settings, signal);
      return superviseRun(plan, signal, createSshHost(place, hosts, settings), deadlines, tell);
    },
  };
}

/** What the roles get of an environment. Errors: USAGE for a variable that is not set. */
export function forwardedEnvironment(
  names: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const forwarded: Record<string, string> = {};
  for (const [name, value] of Object.entries(env))
    if (value !== undefined && FORWARDED.test(name)) forwarded[name] = value;
  for (const each of names) {
    const [, name = '', given] = /^([^=]+)(?:=(.*))?$/s.exec(each) ?? [];
    const value = given ?? env[name];
    if (value === undefined)
      throw new WhittleError('USAGE', `--env ${each}: it is not set here; give --env ${each}=VALUE`);
    forwarded[name] = value;
  }
  return forwarded;
}
