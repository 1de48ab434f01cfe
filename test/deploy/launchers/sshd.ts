import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { isListening } from '../../../deploy/launchers/role-signal.ts';

const SSHD = '/usr/sbin/sshd';

/** An sshd of the tests' own, with keys of its own, on a free port of the loopback addresses that stand for hosts. */
export interface TestSshd {
  /** For `ssh -F`. */
  readonly config: string;
  readonly port: number;
  readonly addresses: readonly string[];
  stop(): Promise<void>;
}

/** Starts it, or says why that cannot be done here. */
export async function startSshd(): Promise<TestSshd | string> {
  if (process.platform !== 'linux') return 'every address of 127.0.0.0/8 is this machine on Linux only';
  if (!existsSync(SSHD)) return `there is no ${SSHD}; install openssh-server`;
  const folder = mkdtempSync(join(tmpdir(), 'whittle-sshd-'));
  const addresses = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];
  const port = await freePort();
  const at = (name: string): string => join(folder, name);
  for (const key of ['host', 'user']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(key)]);
  }
  // Root's sshd wants a folder to confine itself to.
  if (userInfo().uid === 0) mkdirSync('/run/sshd', { recursive: true });
  writeFileSync(
    at('sshd_config'),
    [
      ...addresses.map((address) => `ListenAddress ${address}:${port}`),
      `HostKey ${at('host')}`,
      `AuthorizedKeysFile ${at('user.pub')}`,
      `PidFile ${at('pid')}`,
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'PermitRootLogin yes',
      'StrictModes no',
      'UsePAM no',
      'MaxStartups 100',
      'MaxSessions 100',
      '',
    ].join('\n'),
  );
  const hostKey = execFileSync('ssh-keygen', ['-y', '-f', at('host')]).toString();
  writeFileSync(at('known_hosts'), addresses.map((address) => `[${address}]:${port} ${hostKey}`).join(''));
  writeFileSync(
    at('config'),
    [
      'Host *',
      `  IdentityFile ${at('user')}`,
      '  IdentitiesOnly yes',
      `  UserKnownHostsFile ${at('known_hosts')}`,
      '  StrictHostKeyChecking yes',
      '',
    ].join('\n'),
  );
  const daemon: ChildProcess = spawn(SSHD, ['-D', '-e', '-f', at('sshd_config')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  daemon.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const exit = once(daemon, 'exit');
  const stop = async (): Promise<void> => {
    daemon.kill();
    await exit;
    rmSync(folder, { recursive: true, force: true });
  };
  while (!(await isListening(`127.0.0.3:${port}`))) {
    if (daemon.exitCode === null) continue;
    await stop();
    return `sshd did not start: ${errors.trim()}`;
  }
  return { config: at('config'), port, addresses, stop };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
