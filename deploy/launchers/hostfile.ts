import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { WhittleError } from '../../shared/errors.ts';
import type { Role } from '../../shared/telemetry/run-status.ts';

/** One machine of a hostfile. */
export interface SshHost {
  /** `host` or `user@host`, as ssh takes it. */
  readonly target: string;
  /** Name or address under which the roles there are reached by the others. */
  readonly address: string;
  readonly port: number | null;
  /** Servers and workers that it may run; Infinity where the file does not say. */
  readonly slots: number;
  /** Path of Node there, and of Whittle's folder; null: as here. */
  readonly node: string | null;
  readonly whittle: string | null;
  /** ssh options, each `Key=value`. */
  readonly options: readonly string[];
}

/**
 * Reads a hostfile as those of MPI and torchrun: a host a line, `[user@]host[:port] key=value ...`, `#` begins a
 * comment. Keys: slots, port, address, node, whittle, and `ssh.Key` for any option of ssh.
 * Errors: USAGE with file and line.
 */
export function readHostfile(path: string): SshHost[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new WhittleError('USAGE', `--hostfile ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  return parseHostfile(text, path);
}

export function parseHostfile(text: string, path: string): SshHost[] {
  const hosts: SshHost[] = [];
  for (const [i, raw] of text.split('\n').entries()) {
    const words = raw.replace(/#.*/, '').trim().split(/\s+/);
    if (words[0] === '') continue;
    const fail = (what: string): WhittleError => new WhittleError('USAGE', `${path}:${i + 1}: ${what}`);
    const host = parseHost(words, fail);
    if (hosts.some((each) => each.target === host.target && each.port === host.port))
      throw fail(`host ${host.target} is named twice; give it more slots instead, such as slots=4`);
    hosts.push(host);
  }
  if (hosts.length === 0)
    throw new WhittleError('USAGE', `${path} names no host; write one a line, such as "node1 slots=4"`);
  return hosts;
}

function parseHost(words: readonly string[], fail: (what: string) => WhittleError): SshHost {
  const [first = '', ...rest] = words;
  const [, target = '', portText] =
    /^((?:[^@\s:]+@)?(?:[^\s:[\]]+|\[[^\]]+\]|[^\s[\]]*:[^\s[\]]*:[^\s[\]]*))(?::(\d+))?$/.exec(first) ?? [];
  if (target === '' || target.startsWith('-'))
    throw fail(`"${first}" is no host; write host, user@host or host:port (an IPv6 address in brackets)`);
  const values: Record<string, string> = portText === undefined ? {} : { port: portText };
  const options: string[] = [];
  for (const word of rest) {
    const [, key = '', value = ''] = /^([^=]+)=(.+)$/.exec(word) ?? [];
    if (key.startsWith('ssh.')) options.push(`${key.slice(4)}=${value}`);
    else if (['slots', 'port', 'address', 'node', 'whittle'].includes(key)) values[key] = value;
    else
      throw fail(
        `"${word}" is unknown; there is slots=N, port=N, address=HOST, node=PATH, whittle=FOLDER, ssh.Key=value`,
      );
  }
  const whole = (key: string, min: number, max: number): number | null => {
    const value = values[key];
    if (value === undefined) return null;
    if (!/^\d+$/.test(value) || Number(value) < min || Number(value) > max)
      throw fail(`${key}=${value} must be a whole number from ${min} to ${max}`);
    return Number(value);
  };
  const name = target.replace(/^.*@/, '').replace(/^\[(.*)\]$/, '$1');
  return {
    target: target.replace(/\[(.*)\]$/, '$1'),
    address: values['address'] ?? name,
    port: whole('port', 1, 65535),
    slots: whole('slots', 0, 1024) ?? Infinity,
    node: values['node'] ?? null,
    whittle: values['whittle'] ?? null,
    options,
  };
}

/**
 * Where each role runs: schedulers on the first hosts, then servers and workers round robin over the hosts that have
 * slots left, servers first, so that they spread over as many machines as there are.
 * Errors: USAGE where the slots do not suffice.
 */
export function placeRoles(
  hosts: readonly SshHost[],
  size: { readonly servers: number; readonly workers: number },
): (role: Role, rank: number) => SshHost {
  const wanted = size.servers + size.workers;
  const slots = hosts.reduce((sum, each) => sum + each.slots, 0);
  if (slots < wanted)
    throw new WhittleError(
      'USAGE',
      `the hostfile has ${slots} slots for ${size.servers} servers and ${size.workers} workers; add hosts or slots, or start fewer roles`,
      { data: { slots, ...size } },
    );
  const used = new Map<SshHost, number>();
  const places: SshHost[] = [];
  for (let next = 0; places.length < wanted; next++) {
    const host = hosts[next % hosts.length] as SshHost;
    const count = used.get(host) ?? 0;
    if (count >= host.slots) continue;
    used.set(host, count + 1);
    places.push(host);
  }
  return (role, rank) => {
    const place =
      role === 'scheduler' ? hosts[rank % hosts.length] : places[role === 'server' ? rank : size.servers + rank];
    if (place === undefined) throw new WhittleError('INTERNAL', `no host for ${role}[${rank}]`);
    return place;
  };
}

/** Roles of one machine alone listen on loopback; else on all addresses, and tell the others that of their host. */
export function listenArguments(host: SshHost, hosts: readonly SshHost[]): string[] {
  if (hosts.every(({ address }) => isLoopback(address)))
    return ['--host', host.address === 'localhost' ? '127.0.0.1' : host.address];
  if (isLoopback(host.address))
    throw new WhittleError(
      'USAGE',
      `host ${host.address} of the hostfile is not reached by the others under that name; give it address=HOST`,
    );
  return ['--host', isIP(host.address) === 6 ? '::' : '0.0.0.0', '--advertise', host.address];
}

function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || /^127\.\d+\.\d+\.\d+$/.test(address);
}
