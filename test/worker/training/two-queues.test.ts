import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import { TwoQueues } from '../../../worker/training/two-queues.ts';

describe('TwoQueues', () => {
  it('runs one piece of work at a time, the first queue before the last', async () => {
    const queues = new TwoQueues();
    const events: string[] = [];
    let running = 0;
    const work = (name: string) => async (): Promise<string> => {
      running++;
      assert.equal(running, 1);
      await new Promise((resolve) => setImmediate(resolve));
      events.push(name);
      running--;
      return name;
    };
    const all = [
      queues.last(work('chunk 0')),
      queues.last(work('chunk 1')),
      queues.first(work('slice 0')),
      queues.first(work('slice 1')),
    ];
    assert.deepEqual(await Promise.all(all), ['chunk 0', 'chunk 1', 'slice 0', 'slice 1']);
    assert.deepEqual(events, ['slice 0', 'slice 1', 'chunk 0', 'chunk 1']);
  });

  it('lets a slice that comes during a chunk pass the next chunk', async () => {
    const queues = new TwoQueues();
    const events: string[] = [];
    let slice: Promise<unknown> = Promise.resolve();
    await Promise.all([
      queues.last(() => {
        events.push('chunk 0');
        // As a message that arrives while the thread computes
        setImmediate(() => {
          slice = queues.first(() => events.push('slice'));
        });
      }),
      queues.last(() => events.push('chunk 1')),
    ]);
    await slice;
    assert.deepEqual(events, ['chunk 0', 'slice', 'chunk 1']);
  });

  it('goes on after work that fails', async () => {
    const queues = new TwoQueues();
    const failed = queues.first(() => Promise.reject(new Error('no')));
    const next = queues.first(() => 1);
    await assert.rejects(failed, /no/);
    assert.equal(await next, 1);
  });
});
