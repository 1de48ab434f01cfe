import assert from 'node:assert/strict';
import { Exchange } from '../../../server/parameter-server/exchange.ts';
import { SliceTimes } from '../../../server/parameter-server/slice-times.ts';
import type { FrameStream } from '../../../shared/rpc/frame-stream.ts';

describe('how long slices take', () => {
  it('keeps the time of the first copy by slice, and forgets a step and all before it once it is taken', () => {
    const times = new SliceTimes();
    times.arrived(4, 0, 9);
    times.arrived(5, 1, 20);
    times.arrived(5, 1, 3);
    times.arrived(5, 0, 11);
    assert.deepEqual(times.take(5), [11, 20]);
    assert.deepEqual([times.take(4), times.take(5)], [[], []]);
  });

  it('counts from the last answer to the worker that sent it, not from that to another', async () => {
    const stream = { send: () => Promise.resolve() } as unknown as FrameStream;
    const [early, late] = [1, 2].map(() => new Exchange(stream, 1, () => undefined));
    assert.equal(early!.millisecondsSinceAnswer, null);
    const answer = { clock: 3, maskEpoch: 0, body: new Uint8Array(), stateBytes: 0 };
    early!.want(3, [answer], []);
    // Waits for a clock that is not there yet: it has no weights to compute with.
    late!.want(4, [answer], []);
    const before = performance.now();
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(early!.millisecondsSinceAnswer! >= performance.now() - before);
    assert.equal(late!.millisecondsSinceAnswer, null);
    late!.offer({ ...answer, clock: 4 }, []);
    assert.ok(late!.millisecondsSinceAnswer! < early!.millisecondsSinceAnswer!);
  });
});
