import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Header__Output } from '../../../protos/generated/whittle/Header.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { bodyChecksum } from '../../../shared/rpc/body.ts';
import { FrameStream } from '../../../shared/rpc/frame-stream.ts';
import { bytes, connections, MiB, push } from './frame-stream-support.ts';
import { deferred, startPair, stopPair, streamPair } from './support.ts';

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
  const connected = connections();

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
    const { worker, shard, server } = await connected();
    const atShard = collector(shard);
    worker.onMessage(() => undefined);
    const before = server.socketBytes().read;
    await worker.send(push, bytes(3 * MiB));
    await atShard.when(1);
    const count = worker.sent.of('PUSH');
    const counted = count.bodyBytes + count.overheadBytes;
    // HTTP/2 adds 9 bytes to each of its frames, of up to 16 KiB, and the call's own headers.
    const onSocket = server.socketBytes().read - before;
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
    const { worker, shard, server } = await connected();
    worker.onMessage(() => undefined);
    shard.onMessage(() => undefined);
    await worker.send({ kind: 'OPEN' });
    await server.stop(0);
    const reason = await worker.closed;
    assert.equal(reason?.code, 'ROLE_LOST');
    assert.match(reason.message, /S\[0\]/);
    assert.notEqual(await shard.closed, null);
  });
});
