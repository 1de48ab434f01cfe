import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Frame } from '../../../protos/generated/whittle/Frame.ts';
import type { Header__Output } from '../../../protos/generated/whittle/Header.ts';
import { WhittleError } from '../../../shared/errors.ts';
import type { FrameStreamOptions } from '../../../shared/rpc/frame-stream.ts';
import { bodyChecksum } from '../../../shared/rpc/body.ts';
import { FrameStream } from '../../../shared/rpc/frame-stream.ts';
import { deferred, startPair, stopPair, streamPair } from './support.ts';
import type { Pair } from './support.ts';

const MiB = 1 << 20;
const push = { kind: 'PUSH', clock: 7, slice: 3, sender: 1, generation: 2, maskEpoch: 5 } as const;

function bytes(length: number, seed = 1): Uint8Array {
  const made = new Uint8Array(length);
  for (let index = 0, state = seed; index < length; index++) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    made[index] = state >>> 16;
  }
  return made;
}

interface Received {
  readonly header: Header__Output;
  readonly body: Uint8Array;
}

/** Collects messages; `when(n)` resolves at the n-th. */
function collector(stream: FrameStream): { messages: Received[]; when: (count: number) => Promise<void> } {
  const messages: Received[] = [];
  const waits: { count: number; resolve: () => void }[] = [];
  stream.onMessage((header, body) => {
    messages.push({ header, body });
    for (const wait of waits) if (messages.length >= wait.count) wait.resolve();
  });
  return {
    messages,
    when: (count) =>
      new Promise((resolve) => {
        if (messages.length >= count) resolve();
        else waits.push({ count, resolve });
      }),
  };
}

describe('FrameStream', () => {
  let open: (Pair & { worker: FrameStream; shard: FrameStream }) | undefined;
  async function connected(
    atClient: Partial<FrameStreamOptions> = {},
    atServer: Partial<FrameStreamOptions> = {},
  ): Promise<{ worker: FrameStream; shard: FrameStream }> {
    open = await streamPair(atClient, atServer);
    return open;
  }
  afterEach(async () => {
    if (open === undefined) return;
    open.worker.destroy(new WhittleError('INTERRUPTED', 'the test is over'));
    await stopPair(open);
    open = undefined;
  });

  for (const length of [0, 1, 4, MiB - 1, MiB, MiB + 1, 5 * MiB]) {
    it(`carries a body of ${length} bytes both ways`, async () => {
      const { worker, shard } = await connected();
      const body = bytes(length);
      const atShard = collector(shard);
      const atWorker = collector(worker);
      await worker.send({ ...push, loss: 0.5, last: true }, body);
      await shard.send({ kind: 'WEIGHTS', clock: 7 }, body);
      await Promise.all([atShard.when(1), atWorker.when(1)]);
      const got = atShard.messages[0]!;
      assert.ok(Buffer.from(body).equals(got.body));
      assert.equal(got.body.byteOffset, 0);
      assert.equal(got.body.buffer.byteLength, length);
      assert.deepEqual(got.header, {
        ...push,
        bodyBytes: length,
        crc32: bodyChecksum(body),
        loss: 0.5,
        examples: 0,
        stateBytes: 0,
        reason: '',
        newest: false,
        last: true,
      });
      assert.ok(Buffer.from(body).equals(atWorker.messages[0]!.body));
      const sent = worker.sent.of('PUSH');
      assert.deepEqual(sent, shard.received.of('PUSH'));
      assert.deepEqual([sent.messages, sent.bodyBytes], [1, length]);
    });
  }

  it('counts the bytes that gRPC puts on the wire', async () => {
    const { worker, shard } = await connected();
    const atShard = collector(shard);
    worker.onMessage(() => undefined);
    const before = open!.server.socketBytes().read;
    await worker.send(push, bytes(3 * MiB));
    await atShard.when(1);
    const count = worker.sent.of('PUSH');
    const counted = count.bodyBytes + count.overheadBytes;
    // HTTP/2 adds 9 bytes to each of its frames, of up to 16 KiB, and the call's own headers.
    const onSocket = open!.server.socketBytes().read - before;
    assert.ok(counted <= onSocket && onSocket < counted * 1.002, `${counted} counted, ${onSocket} on the socket`);
    assert.equal(count.overheadBytes, worker.sent.of('PUSH').overheadBytes);
    assert.ok(count.overheadBytes > 3 * 10 && count.overheadBytes < 100, `${count.overheadBytes} bytes of overhead`);
  });

  it('delivers messages cut anyhow, with any credit, in order', async () => {
    // Frames are as small as the credit, so bodies are kept in proportion to it.
    const shapesAndCredit = fc
      .integer({ min: 1, max: 9000 })
      .chain((creditBytes) =>
        fc.tuple(
          fc.array(fc.array(fc.nat(3 * creditBytes), { maxLength: 4 }), { minLength: 1, maxLength: 12 }),
          fc.constant(creditBytes),
        ),
      );
    await fc.assert(
      fc.asyncProperty(shapesAndCredit, fc.boolean(), async ([shapes, creditBytes], checksum) => {
        const pair = await streamPair({ checksum }, { creditBytes, checksum });
        const { worker, shard } = pair;
        worker.onMessage(() => undefined);
        const atShard = collector(shard);
        const bodies = shapes.map((parts, index) => parts.map((length, part) => bytes(length, index * 10 + part)));
        await Promise.all(bodies.map((body, slice) => worker.send({ ...push, slice }, body)));
        await atShard.when(bodies.length);
        atShard.messages.forEach(({ header, body }, index) => {
          assert.equal(header.slice, index);
          assert.ok(Buffer.concat(bodies[index]!).equals(body));
        });
        assert.equal(await worker.close(), null);
        assert.equal(await shard.closed, null);
        await stopPair(pair);
      }),
      { numRuns: 40 },
    );
  });

  it('bounds what waits in the receiver by its credit', async () => {
    const creditBytes = 4 * MiB;
    const { worker, shard } = await connected({}, { creditBytes });
    worker.onMessage(() => undefined);
    const turn = deferred();
    const full = deferred();
    let waiting = 0;
    shard.onMessage(async (_header, body) => {
      waiting += body.length;
      assert.ok(waiting <= creditBytes, `${waiting} bytes wait`);
      if (waiting === creditBytes) full.resolve();
      await turn.promise;
      waiting -= body.length;
    });
    const sends = Array.from({ length: 10 }, () => worker.send(push, bytes(MiB)));
    await Promise.all(sends.slice(0, 4));
    await full.promise;
    assert.equal(shard.grantedBytes, 0);
    assert.equal(worker.sent.of('PUSH').bodyBytes, creditBytes);
    turn.resolve();
    await Promise.all(sends);
    assert.equal(worker.sent.of('PUSH').bodyBytes, 10 * MiB);
  });

  it('gives credit back at release, once, before the handler is done', async () => {
    const { worker, shard } = await connected({}, { creditBytes: MiB });
    worker.onMessage(() => undefined);
    const never = new Promise<void>(() => undefined);
    let count = 0;
    shard.onMessage((_header, _body, release) => {
      count++;
      release();
      release();
      return never;
    });
    for (let k = 0; k < 5; k++) await worker.send(push, bytes(MiB));
    await worker.send({ kind: 'PULL' });
    await worker.send(push, bytes(MiB));
    assert.equal(count >= 5, true);
    assert.ok(shard.grantedBytes <= MiB, `${shard.grantedBytes} bytes granted`);
  });

  it('takes a body larger than its credit', async () => {
    const { worker, shard } = await connected({}, { creditBytes: 100_000 });
    worker.onMessage(() => undefined);
    const atShard = collector(shard);
    await worker.send(push, bytes(3 * MiB));
    await worker.send(push, bytes(2 * MiB));
    await atShard.when(2);
    assert.ok(shard.grantedBytes <= 100_000);
  });

  it('answers one buffer to many, unchanged', async () => {
    const weights = bytes(2 * MiB);
    const crc32 = bodyChecksum(weights);
    const pair = await startPair({
      Exchange: (call) => {
        const stream = new FrameStream(call, { peer: 'W' });
        stream.onMessage((header) => stream.send({ kind: 'WEIGHTS', clock: header.clock, crc32 }, weights));
      },
    });
    const streams = [0, 1, 2].map(() => new FrameStream(pair.client.exchange(), { peer: 'S[0]' }));
    const received = streams.map((stream) => collector(stream));
    await Promise.all(streams.map((stream, rank) => stream.send({ kind: 'PULL', clock: rank })));
    await Promise.all(received.map(({ when }) => when(1)));
    received.forEach(({ messages }, rank) => {
      assert.equal(messages[0]!.header.clock, rank);
      assert.ok(Buffer.from(weights).equals(messages[0]!.body));
    });
    assert.equal(bodyChecksum(weights), crc32);
    await Promise.all(streams.map((stream) => stream.close()));
    await stopPair(pair);
  });

  it('takes back a message that has not begun', async () => {
    const { worker, shard } = await connected({}, { creditBytes: MiB });
    worker.onMessage(() => undefined);
    shard.onMessage(() => new Promise(() => undefined));
    await worker.send(push, bytes(MiB - 10));
    const first = new AbortController();
    const waiting = worker.send(push, bytes(MiB), first.signal);
    const behind = worker.send(push, bytes(5));
    first.abort();
    await assert.rejects(waiting, (error: WhittleError) => error.code === 'INTERRUPTED');
    await behind;
    assert.equal(worker.sent.of('PUSH').messages, 2);
  });

  it('ends the stream when a message that has begun is taken back', async () => {
    const { worker, shard } = await connected({}, { creditBytes: MiB });
    worker.onMessage(() => undefined);
    shard.onMessage(() => undefined);
    await worker.send(push, bytes(1));
    const abort = new AbortController();
    const begun = worker.send(push, bytes(5 * MiB), abort.signal);
    abort.abort();
    await assert.rejects(begun, (error: WhittleError) => error.code === 'INTERRUPTED');
    assert.equal((await worker.closed)?.code, 'INTERRUPTED');
    assert.equal((await shard.closed)?.code, 'ROLE_LOST');
  });

  it('sends what is queued before it closes, and nothing after', async () => {
    const { worker, shard } = await connected();
    worker.onMessage(() => undefined);
    const atShard = collector(shard);
    void worker.send(push, bytes(3 * MiB));
    void worker.send(push, bytes(10));
    const closed = worker.close();
    await assert.rejects(worker.send(push), (error: WhittleError) => error.code === 'ROLE_LOST');
    assert.equal(await closed, null);
    assert.equal(atShard.messages.length, 2);
    assert.equal(await shard.closed, null);
  });

  it('tells the other side why it ends', async () => {
    const { worker, shard } = await connected();
    worker.onMessage(() => undefined);
    shard.onMessage(() => {
      throw new WhittleError('NOT_FINITE', 'slice 3 of step 7 has a NaN');
    });
    await worker.send(push);
    const reason = await worker.closed;
    assert.equal(reason?.code, 'NOT_FINITE');
    assert.match(reason.rawMessage, /^S\[0\]: slice 3 of step 7 has a NaN/);
    assert.equal((await shard.closed)?.code, 'NOT_FINITE');
    await assert.rejects(worker.send(push), reason);
  });

  it('notices that the worker vanished', async () => {
    const { worker, shard } = await connected();
    worker.onMessage(() => undefined);
    shard.onMessage(() => undefined);
    await worker.send({ kind: 'OPEN' });
    const pending = shard.send({ kind: 'WEIGHTS' }, bytes(40 * MiB));
    worker.destroy(new WhittleError('INTERRUPTED', 'gone'));
    await assert.rejects(pending, (error: WhittleError) => error.code === 'ROLE_LOST' && error.retryable);
    assert.match((await shard.closed)!.message, /W\[0\] vanished/);
  });

  it('does not take a worker that vanished while idle or within a message for one that ended', async () => {
    for (const cut of ['idle', 'within a message']) {
      const found = deferred<FrameStream>();
      const begun = deferred();
      const pair = await startPair({
        Exchange: (call) => {
          const stream = new FrameStream(call, { peer: 'W[0]' });
          stream.onMessage(() => begun.resolve());
          found.resolve(stream);
        },
      });
      const call = pair.client.exchange();
      call.resume().on('error', () => undefined);
      call.write({ header: { kind: 'OPEN' } });
      const shard = await found.promise;
      await begun.promise;
      if (cut !== 'idle') {
        call.write({ header: { ...push, bodyBytes: 4 }, chunk: bytes(2) });
        while (shard.received.of('PUSH').bodyBytes === 0) await new Promise(setImmediate);
      }
      call.cancel();
      const reason = await shard.closed;
      assert.equal(reason?.code, 'ROLE_LOST', cut);
      assert.match(reason.message, /W\[0\] vanished/);
      await stopPair(pair);
    }
  });

  it('notices that the server vanished', async () => {
    const { worker, shard } = await connected();
    worker.onMessage(() => undefined);
    shard.onMessage(() => undefined);
    await worker.send({ kind: 'OPEN' });
    await open!.server.stop(0);
    const reason = await worker.closed;
    assert.equal(reason?.code, 'ROLE_LOST');
    assert.match(reason.message, /S\[0\]/);
    assert.notEqual(await shard.closed, null);
  });

  describe('drops a peer', () => {
    const isCut = (pattern: RegExp) => (error: WhittleError) =>
      error.code === 'PROTOCOL' && pattern.test(error.message);

    it('that asks and never gives credit, before much waits for it', async () => {
      const { worker, shard } = await connected({}, {});
      const weights = bytes(20 * MiB);
      shard.onMessage(() => undefined);
      const crc32 = bodyChecksum(weights);
      const sends = [0, 1, 2, 3, 4].map(() => shard.send({ kind: 'WEIGHTS', crc32 }, weights));
      await assert.rejects(shard.send({ kind: 'WEIGHTS', crc32 }, weights), isCut(/W\[0\] does not read: 4 messages/));
      for (const send of sends) await assert.rejects(send, isCut(/does not read/));
      assert.match((await worker.closed)!.message, /does not read/);
    });

    it('that asks for many small answers and takes none', async () => {
      const { worker, shard } = await connected();
      let answers = 0;
      shard.onMessage(() => {
        answers++;
        shard.send({ kind: 'REFUSED' }, bytes(1)).catch(() => undefined);
      });
      // No onMessage at the worker: it gives no credit.
      for (let k = 0; k < 1000; k++) worker.send({ kind: 'PULL' }).catch(() => undefined);
      assert.match((await worker.closed)!.message, /does not read: 256 messages of 256 bytes/);
      assert.ok(answers < 300, `${answers} answers`);
    });

    it('that gives no credit for so long', async () => {
      const { worker, shard } = await connected({}, { stallMilliseconds: 60 });
      shard.onMessage(() => undefined);
      await assert.rejects(shard.send({ kind: 'WEIGHTS' }, bytes(9)), isCut(/W\[0\] has not read for 0\.06 s/));
      assert.match((await worker.closed)!.message, /has not read/);
    });

    it('that does not go on with its message', async () => {
      const found = deferred<FrameStream>();
      const pair = await startPair({
        Exchange: (call) => {
          const stream = new FrameStream(call, { peer: 'W[1]', stallMilliseconds: 60 });
          stream.onMessage(() => undefined);
          found.resolve(stream);
        },
      });
      const call = pair.client.exchange();
      call.resume().on('error', () => undefined);
      call.write({ header: { ...push, bodyBytes: 4 }, chunk: bytes(2) });
      assert.match((await (await found.promise).closed)!.message, /W\[1\] has not sent the rest of its message/);
      await stopPair(pair);
    });

    it('but not one that is idle, nor a server that makes its worker wait', async () => {
      const { worker, shard } = await connected({}, { stallMilliseconds: 30, creditBytes: MiB });
      worker.onMessage(() => undefined);
      const turn = deferred();
      shard.onMessage(() => turn.promise);
      await worker.send(push, bytes(MiB));
      const waiting = worker.send(push, bytes(MiB));
      await new Promise((resolve) => setTimeout(resolve, 150));
      turn.resolve();
      await waiting;
      assert.equal(await worker.close(), null);
    });
  });

  describe('refuses', () => {
    const header = { ...push, bodyBytes: 4, crc32: bodyChecksum(bytes(4)) };
    const cases: [string, Frame[], RegExp][] = [
      ['a chunk without a header', [{ chunk: bytes(4) }], /without a header/],
      ['a chunk beyond its body', [{ header, chunk: bytes(5) }], /beyond its body of 4 bytes/],
      ['a later chunk beyond it', [{ header, chunk: bytes(2) }, { chunk: bytes(3) }], /beyond its body of 4 bytes/],
      ['a second header within a body', [{ header, chunk: bytes(2) }, { header }], /at 2 of 4 bytes/],
      ['a wrong checksum', [{ header: { ...header, crc32: 1 }, chunk: bytes(4) }], /crc32/],
      ['a body over the limit', [{ header: { ...header, bodyBytes: 2 * MiB } }], /at most 1048576 are taken/],
      ['a chunk over 1 MiB', [{ header: { ...header, bodyBytes: MiB }, chunk: bytes(MiB + 1) }], /at most 1048576/],
      ['bytes beyond its credit', [{ header: { ...header, bodyBytes: 9 }, chunk: bytes(9) }], /more than its credit/],
    ];
    for (const [name, frames, message] of cases) {
      it(name, async () => {
        const creditBytes = name.includes('credit') ? 8 : 4 * MiB;
        const found = deferred<FrameStream>();
        const pair = await startPair({
          Exchange: (call) => {
            const stream = new FrameStream(call, { peer: 'W[1]', maxBodyBytes: MiB, creditBytes });
            stream.onMessage(() => undefined);
            found.resolve(stream);
          },
        });
        const call = pair.client.exchange();
        call.resume();
        const failed = new Promise<{ details: string }>((resolve) => call.once('error', resolve as never));
        for (const frame of frames) call.write(frame);
        assert.match((await failed).details, message);
        const reason = await (await found.promise).closed;
        assert.equal(reason?.code, 'PROTOCOL');
        assert.match(reason.message, message);
        await stopPair(pair);
      });
    }

    it('a stream that ends within a body', async () => {
      const found = deferred<FrameStream>();
      const pair = await startPair({
        Exchange: (call) => {
          const stream = new FrameStream(call, { peer: 'W[1]' });
          stream.onMessage(() => undefined);
          found.resolve(stream);
        },
      });
      const call = pair.client.exchange();
      call.resume().on('error', () => undefined);
      call.write({ header, chunk: bytes(2) });
      call.end();
      assert.match((await (await found.promise).closed)!.message, /W\[1\] ended its stream within a PUSH/);
      await stopPair(pair);
    });
  });
});
