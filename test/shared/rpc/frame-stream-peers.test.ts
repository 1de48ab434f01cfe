import assert from 'node:assert/strict';
import type { Frame } from '../../../protos/generated/whittle/Frame.ts';
import type { WhittleError } from '../../../shared/errors.ts';
import { bodyChecksum } from '../../../shared/rpc/body.ts';
import { FrameStream } from '../../../shared/rpc/frame-stream.ts';
import { bytes, connections, MiB, push } from './frame-stream-support.ts';
import { deferred, startPair, stopPair } from './support.ts';

describe('FrameStream, against peers that do not keep to the protocol', () => {
  const connected = connections();

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
