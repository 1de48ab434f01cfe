import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { FIXTURES, smallRunFile, start, until, untilStep } from './support.ts';
import type { Ended } from './support.ts';

const BEHIND = '127.0.0.1';
/** Where members reach each other: every byte between them passes a tap. */
export const TAPPED = '127.0.0.2';

/** What passed a tap on one connection, by direction. */
export interface Recording {
  readonly up: Buffer[];
  readonly down: Buffer[];
}

/** A TCP proxy on TAPPED, in front of the same port of 127.0.0.1, that keeps what passes. */
export class Tap {
  readonly recordings: Recording[] = [];
  readonly #server = createServer((near) => this.#join(near));
  readonly #sockets = new Set<Socket>();

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, TAPPED, resolve));
    return this.port;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Everything that passed, as one text: what a packet capture shows to one who searches it. */
  text(): string {
    return Buffer.concat(this.recordings.flatMap(({ up, down }) => [...up, ...down])).toString('latin1');
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(near: Socket): void {
    const recording: Recording = { up: [], down: [] };
    this.recordings.push(recording);
    const far = connect(this.port, BEHIND);
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        near.destroy();
        far.destroy();
      });
    }
    near.on('data', (data: Buffer) => recording.up.push(data) && far.write(data));
    far.on('data', (data: Buffer) => recording.down.push(data) && near.write(data));
  }
}

/** A run whose roles a test started one by one, with a tap before each that listens. */
export interface HandStartedRun {
  readonly directory: RunDirectory;
  /** Where the roles really listen. */
  readonly scheduler: string;
  readonly server: string;
  readonly taps: { readonly scheduler: Tap; readonly server: Tap };
  /** Waits for a line of a role's log. */
  logged(role: 'scheduler' | 'server', pattern: RegExp): Promise<void>;
  /** Fails when the run has ended. */
  assertTraining(): Promise<void>;
  /** Lets the run go on at full speed, waits for its end, and answers its result. */
  finish(): Promise<RunResult>;
  kill(): Promise<void>;
}

const STEPS = 400;

/** One server, two workers; the run is at step 5 and in no hurry when this resolves. */
export async function startByHand(folder: string, certs: string | null): Promise<HandStartedRun> {
  const slow = join(folder, 'slow');
  await mkdir(folder, { recursive: true });
  await writeFile(slow, '');
  const base = smallRunFile({ steps: STEPS, servers: 1 });
  const document = {
    ...base,
    data: { ...(base['data'] as object), source: join(FIXTURES, 'slow-data.ts') },
    ...(certs === null ? {} : { security: { certificates: certs } }),
  };
  const directory = await RunDirectory.create(folder, 'hand-started', stringify(document));
  const taps = { scheduler: new Tap(), server: new Tap() };
  const ports = { scheduler: await taps.scheduler.listen(), server: await taps.server.listen() };
  const scheduler = `${BEHIND}:${ports.scheduler}`;
  const server = `${BEHIND}:${ports.server}`;

  const env = { WHITTLE_TEST_SLOW: slow };
  const role = (name: string, ...args: string[]): ReturnType<typeof start> =>
    start([name, '--run-dir', directory.path, '--advertise', TAPPED, ...args], { env });
  const roles = [role('scheduler', '--port', String(ports.scheduler))];
  await until('the scheduler to listen', async () =>
    (await logOf('scheduler')).includes('"listening"') ? true : null,
  );
  const member = ['--scheduler', `${TAPPED}:${ports.scheduler}`, '--rank'];
  roles.push(role('server', '--port', String(ports.server), ...member, '0'));
  roles.push(role('worker', ...member, '0'), role('worker', ...member, '1'));
  const ended = Promise.all(roles.map((each) => each.ended));
  const first = Promise.race(roles.map((each) => each.ended));
  await untilStep(directory.path, 5, first);

  async function logOf(name: 'scheduler' | 'server'): Promise<string> {
    return readFile(directory.logFile(name, 0), 'utf8').catch(() => '');
  }
  let over: Ended | null = null;
  void first.then((end) => (over = end));
  const kill = async (): Promise<void> => {
    for (const { child } of roles) child.kill('SIGKILL');
    await ended;
    await Promise.all([taps.scheduler.close(), taps.server.close()]);
  };
  return {
    directory,
    scheduler,
    server,
    taps,
    logged: async (name, pattern) => {
      await until(`${String(pattern)} in the log of the ${name}`, async () =>
        (await logOf(name)).split('\n').some((line) => pattern.test(line)) ? true : null,
      );
    },
    assertTraining: () => {
      if (over === null) return Promise.resolve();
      return Promise.reject(new Error(`a role ended:\n${over.stderr}\n${over.stdout}`));
    },
    finish: async () => {
      await rm(slow);
      const ends = await ended;
      for (const { code, stderr } of ends) if (code !== 0) throw new Error(`a role exited with ${code}\n${stderr}`);
      const result = await directory.readResult();
      if (result === null) throw new Error('the run left no result');
      return result;
    },
    kill,
  };
}
