import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { Client, Metadata } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import type { Frame, Frame__Output } from '../../protos/generated/whittle/Frame.ts';
import type { Report } from '../../protos/generated/whittle/Report.ts';
import { parameterServerClient, schedulerClient, unary } from '../../shared/rpc/client.ts';
import { channelCredentials, channelNames, tokenOptions } from '../../shared/rpc/credentials.ts';
import type { RunCredentials } from '../../shared/rpc/credentials.ts';
import { MAX_MESSAGE_BYTES, SERVER_LIMITS } from '../../shared/rpc/options.ts';
import { NO_RANK } from '../../shared/rpc/member-session.ts';
import { loadRunSecurity } from '../../shared/security/run-security.ts';
import { newToken } from '../../shared/security/token.ts';
import { newCredentials } from '../shared/security/support.ts';
import { startByHand, TAPPED } from './hand-started.ts';
import type { HandStartedRun } from './hand-started.ts';
import { digestsOf, whittle, withFolder } from './support.ts';

const soon = { deadlineMilliseconds: 10_000 };
const MiB = 1 << 20;

/** The error that a stream ends with; fails where it ends in order. */
function failure(stream: NodeJS.EventEmitter): Promise<ServiceError> {
  return new Promise((resolve, reject) => {
    stream.once('error', resolve);
    stream.once('end', () => setImmediate(() => reject(new Error('the stream ended in order'))));
  });
}

/** A stranger's or a rogue member's clients, closed in the end. */
class Intruder {
  readonly #clients: Client[] = [];
  readonly #run: HandStartedRun;
  readonly #credentials: RunCredentials;

  constructor(run: HandStartedRun, credentials: RunCredentials) {
    this.#run = run;
    this.#credentials = credentials;
  }

  scheduler(): ReturnType<typeof schedulerClient> {
    const client = schedulerClient(this.#run.scheduler, this.#credentials);
    this.#clients.push(client);
    return client;
  }

  server(): ReturnType<typeof parameterServerClient> {
    const client = parameterServerClient(this.#run.server, this.#credentials);
    this.#clients.push(client);
    return client;
  }

  /** Writes frames to the server; answers why the stream ended. */
  async frames(frames: readonly Frame[]): Promise<string> {
    const stream = this.server().exchange();
    stream.resume();
    const ended = failure(stream);
    for (const frame of frames) stream.write(frame);
    return (await ended).details;
  }

  /** Sends bytes as a frame of an Exchange, whatever they are; answers why the stream ended. */
  async bytes(bytes: Buffer, metadata = new Metadata()): Promise<string> {
    const address = this.#run.server;
    const options = { ...channelNames(address), ...tokenOptions(this.#credentials) };
    const client = new Client(address, channelCredentials(this.#credentials, address), options);
    this.#clients.push(client);
    const same = (message: Buffer): Buffer => message;
    const stream = client.makeBidiStreamRequest('/whittle.ParameterServer/Exchange', same, same, metadata, {});
    stream.resume();
    const ended = failure(stream);
    stream.write(bytes);
    return (await ended).details;
  }

  /** Opens a session with these reports; answers why it ended. */
  async session(...reports: readonly Report[]): Promise<string> {
    const stream = this.scheduler().session();
    stream.resume();
    const ended = failure(stream);
    for (const report of reports) stream.write(report);
    return (await ended).details;
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

interface Fortress {
  readonly run: HandStartedRun;
  readonly own: RunCredentials & { readonly token: string };
  /** Does something as whoever has these credentials; default: the run's own. */
  readonly as: <T>(act: (intruder: Intruder) => Promise<T>, credentials?: RunCredentials) => Promise<T>;
}

type Attack = readonly [what: string, attack: (fortress: Fortress) => Promise<void>];

const register = (run: HandStartedRun, changes: object = {}): Report => ({
  register: { role: 'worker', rank: 0, address: '', runId: run.directory.runId, pid: 1, host: 'x', ...changes },
});
const header = { kind: 'PUSH', generation: 1, clock: 1, slice: 0, sender: 0, bodyBytes: 4, crc32: 0 } as const;

/** Anyone who cannot show the token. */
const STRANGERS: readonly Attack[] = [
  ...(
    [
      ['a wrong token', () => newToken(), /carries another token/],
      ['no token', () => null, /carries no run token/],
    ] as const
  ).map(([what, token, why]): Attack => [
    what,
    async ({ run, own, as }) => {
      await as(
        async (intruder) => {
          const stop = unary(intruder.scheduler(), 'stop', { reason: 'mischief' }, soon);
          await assert.rejects(stop, why);
          const commit = unary(intruder.server(), 'commitMask', { generation: 1, step: 1, maskEpoch: 9 }, soon);
          await assert.rejects(commit, why);
          assert.match(await intruder.session(register(run, { rank: NO_RANK })), why);
          assert.match(await intruder.frames([{ header, chunk: Buffer.alloc(4) }]), why);
        },
        { ...own, token: token() },
      );
      for (const method of ['Stop', 'Session'])
        await run.logged('scheduler', new RegExp(`refused: ${method}.*${why.source}`));
      for (const method of ['CommitMask', 'Exchange'])
        await run.logged('server', new RegExp(`refused: ${method}.*${why.source}`));
    },
  ]),
  [
    'a crowd of connections that say nothing',
    async ({ run }) => {
      const [host = '', port = ''] = run.server.split(':');
      const sockets = Array.from({ length: SERVER_LIMITS.strangers + 20 }, () =>
        connect(Number(port), host).on('error', () => undefined),
      );
      await run.logged('server', /have not shown the run's token, the most that may wait/);
      for (const socket of sockets) socket.destroy();
    },
  ],
];

const WITHOUT_CERTIFICATE: readonly Attack[] = [
  [
    'a certificate of another authority',
    async ({ run, own, as }) => {
      const { certificates } = await newCredentials();
      const forged = { token: own.token, certificates: { ...certificates!, authority: own.certificates!.authority } };
      await as(async (intruder) => {
        await assert.rejects(unary(intruder.scheduler(), 'stop', { reason: 'mischief' }, soon), /ROLE_LOST/);
        await assert.rejects(unary(intruder.server(), 'shareNorm', { generation: 1 }, soon), /ROLE_LOST/);
      }, forged);
      for (const role of ['scheduler', 'server'] as const)
        await run.logged(role, /refused: the TLS handshake failed: .*(VERIFY|ISSUER)/);
    },
  ],
  [
    'no certificate',
    async ({ run, own }) => {
      const [host = '', port = ''] = run.server.split(':');
      const socket = connectTls({ host, port: Number(port), ca: own.certificates!.authority, ALPNProtocols: ['h2'] });
      socket.on('error', () => undefined);
      await new Promise((resolve) => socket.once('close', resolve));
      await run.logged('server', /refused: the TLS handshake failed: .*certificate/i);
    },
  ],
  [
    'plain text',
    async ({ run, own, as }) => {
      const plain = { ...own, certificates: null };
      await as(
        (intruder) => assert.rejects(unary(intruder.scheduler(), 'stop', { reason: 'mischief' }, soon), /ROLE_LOST/),
        plain,
      );
      await run.logged('scheduler', /refused: the TLS handshake failed/);
    },
  ],
];

/** One who has the token (and certificate), as a broken or hostile member would. */
const ROGUES: readonly Attack[] = [
  [
    'a second member with a taken rank',
    async ({ run, as }) => {
      assert.match(await as((rogue) => rogue.session(register(run))), /worker\[0\] is registered already/);
      await run.logged('scheduler', /refused: Session: worker\[0\] is registered already/);
    },
  ],
  [
    'too many members',
    async ({ run, as }) => {
      const next = register(run, { rank: NO_RANK });
      assert.match(await as((rogue) => rogue.session(next)), /is not needed: the run has 2 workers/);
      assert.match(await as((rogue) => rogue.session(register(run, { rank: 7 }))), /worker\[7\] is not needed/);
      await run.logged('scheduler', /refused: Session: worker\[7\] is not needed/);
    },
  ],
  [
    'a member of another run, an unknown role, and a session that does not register',
    async ({ run, as }) => {
      assert.match(await as((rogue) => rogue.session(register(run, { runId: 'other' }))), /not "other"/);
      assert.match(await as((rogue) => rogue.session(register(run, { role: 'king' }))), /unknown role "king"/);
      const beat = await as((rogue) =>
        rogue.session({ heartbeat: { clock: 9 } }, { failure: { message: 'mischief' } }),
      );
      assert.match(beat, /must register/);
      await run.logged('scheduler', /refused: Session: .*must register/);
    },
  ],
  [
    'calls of an old generation',
    async ({ run, as }) => {
      const old = { generation: 0, rank: 0, cuts: [0, 64], modelDescription: '{}', runFile: '{}' };
      await assert.rejects(
        as((rogue) => unary(rogue.server(), 'configure', old, soon)),
        /STALE_GENERATION/,
      );
      await run.logged('server', /refused: Configure: .*STALE_GENERATION/);
      const answer = await as(async (rogue) => {
        const stream = rogue.server().exchange();
        stream.on('error', () => undefined);
        const answered = new Promise<Frame__Output>((resolve) => {
          stream.on('data', (frame: Frame__Output) => frame.header && resolve(frame));
        });
        stream.write({ credit: MiB });
        stream.write({ header: { ...header, generation: 0, bodyBytes: 0 } });
        const frame = await answered;
        stream.cancel();
        return frame;
      });
      assert.equal(answer.header?.kind, 'REFUSED');
      assert.equal(answer.header.reason, 'STALE_GENERATION');
    },
  ],
  [
    'a checkpoint outside the run directory',
    async ({ run, as }) => {
      for (const restoreFrom of ['../../other/checkpoints/step-00000001-g1', '/etc', '..']) {
        const configure = { generation: 1, rank: 0, cuts: [0, 64], modelDescription: '{}', runFile: '{}', restoreFrom };
        const call = as((rogue) => unary(rogue.server(), 'configure', configure, soon));
        await assert.rejects(call, /SECURITY.*is none of the run's own/);
      }
      await run.logged('server', /refused: Configure: .*none of the run's own/);
    },
  ],
  [
    'oversized frames, messages and metadata',
    async ({ run, as }) => {
      const large = { ...header, bodyBytes: 2 ** 31 - 1 };
      assert.match(await as((rogue) => rogue.frames([{ header: large }])), /announces 2147483647 bytes, at most \d+/);
      const fat = [{ header: { ...header, bodyBytes: 100 }, chunk: Buffer.alloc(MiB + 1) }];
      assert.match(await as((rogue) => rogue.frames(fat)), /chunk of 1048577 bytes|more than its credit/);
      assert.match(await as((rogue) => rogue.bytes(Buffer.alloc(MAX_MESSAGE_BYTES + 1))), /larger than max/);
      const metadata = new Metadata();
      metadata.set('x', 'y'.repeat(64 << 10));
      assert.notEqual(await as((rogue) => rogue.bytes(Buffer.alloc(0), metadata)), '');
      await run.logged('server', /refused: Exchange: .*announces 2147483647 bytes/);
      await run.logged('server', /refused: Exchange: .*larger than max/);
    },
  ],
  [
    'malformed frames',
    async ({ run, as }) => {
      const wrong: readonly [readonly Frame[], RegExp][] = [
        [[{ header: { ...header, crc32: 1 }, chunk: Buffer.from('abcd') }], /has crc32 \d+, its header says 1/],
        [[{ header, chunk: Buffer.from('abcde') }], /chunk beyond its body of 4 bytes/],
        [[{ chunk: Buffer.from('abcd') }], /came without a header/],
        [[{ header, chunk: Buffer.from('ab') }, { header }], /came while PUSH/],
        [[{ header: { ...header, kind: 'WEIGHTS', bodyBytes: 0 } }], /a worker sent WEIGHTS/],
      ];
      for (const [frames, why] of wrong) {
        assert.match(await as((rogue) => rogue.frames(frames)), why);
        await run.logged('server', new RegExp(`refused: Exchange: .*${why.source}`));
      }
      const random = Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 167 + 13) & 255));
      assert.match(await as((rogue) => rogue.bytes(random)), /deserializing/);
      await run.logged('server', /refused: Exchange: Error deserializing request/);
    },
  ],
  [
    'one who asks and never reads',
    async ({ run, as }) => {
      const pulls = Array.from({ length: 2000 }, (): Frame => ({
        header: { kind: 'PULL', generation: 1, clock: 0 },
      }));
      assert.match(await as((rogue) => rogue.frames(pulls)), /does not read: 256 messages/);
      await run.logged('server', /refused: Exchange: .*does not read/);
    },
  ],
];

describe('intruders', function () {
  this.timeout(300_000);
  let undisturbed: readonly string[];

  before(() =>
    withFolder(async (folder) => {
      const run = await startByHand(folder, null);
      undisturbed = digestsOf(await run.finish());
      await run.kill();
    }),
  );

  async function besiege(
    folder: string,
    certs: string | null,
    attacks: readonly Attack[],
  ): Promise<{ run: HandStartedRun; digests: readonly string[] }> {
    const run = await startByHand(folder, certs);
    try {
      const { credentials } = await loadRunSecurity(run.directory.path);
      assert.ok(credentials.token);
      const own = { ...credentials, token: credentials.token };
      const as: Fortress['as'] = async (act, given = own) => {
        const intruder = new Intruder(run, given);
        try {
          return await act(intruder);
        } finally {
          intruder.close();
        }
      };
      for (const [what, attack] of attacks) {
        try {
          await attack({ run, own, as });
          await run.assertTraining();
        } catch (cause) {
          throw new Error(`${what}: ${String(cause)}`, { cause });
        }
      }
      return { run, digests: digestsOf(await run.finish()) };
    } finally {
      await run.kill();
    }
  }

  it('are refused under mutual TLS, harm no step, and see nothing', () =>
    withFolder(async (folder) => {
      const certs = join(folder, 'certs');
      assert.equal((await whittle(['certs', '--out', certs, '--hosts', TAPPED])).code, 0);
      const attacks = [...WITHOUT_CERTIFICATE, ...STRANGERS, ...ROGUES];
      const { run, digests } = await besiege(join(folder, 'runs'), certs, attacks);
      assert.deepEqual(digests, undisturbed);
      const { scheduler, server } = run.taps;
      assert.ok(scheduler.recordings.length >= 3 && server.recordings.length >= 3, 'the taps saw every member');
      for (const text of SECRETS(run)) {
        assert.ok(!scheduler.text().includes(text), `${text} passed to the scheduler in the clear`);
        assert.ok(!server.text().includes(text), `${text} passed to the server in the clear`);
      }
    }));

  it('without the token are refused on loopback too, where a replayed join has no effect', () =>
    withFolder(async (folder) => {
      const replay: Attack = [
        // First, so that the line it waits for is its own.
        'a replayed join, byte for byte',
        async ({ run }) => {
          const join = run.taps.scheduler.recordings.find(({ up }) => isJoin(run, up));
          assert.ok(join, 'no join was recorded');
          const [host = '', port = ''] = run.scheduler.split(':');
          const socket = connect(Number(port), host).on('error', () => undefined);
          for (const data of join.up) socket.write(data);
          await run.logged('scheduler', /refused: Session: (worker|server)\[\d\] is registered already/);
          socket.destroy();
        },
      ];
      const { run, digests } = await besiege(join(folder, 'runs'), null, [replay, ...STRANGERS, ...ROGUES]);
      assert.deepEqual(digests, undisturbed);
      // The same search finds them where nothing is encrypted: it can fail.
      for (const text of SECRETS(run)) assert.ok(run.taps.scheduler.text().includes(text), text);
    }));
});

/** What a run says of itself on the wire: its id, a parameter's name, a key of its run file. */
const SECRETS = ({ directory }: HandStartedRun): readonly string[] => [
  directory.runId,
  'dense_1/kernel',
  'learningRate',
];

function isJoin({ directory }: HandStartedRun, up: readonly Buffer[]): boolean {
  const bytes = Buffer.concat(up);
  return bytes.includes('worker') && bytes.includes(directory.runId);
}
