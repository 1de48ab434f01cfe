import assert from 'node:assert/strict';
import type { Coordinator } from '../../../shared/coordination/coordinator.ts';
import type { WhittleError } from '../../../shared/errors.ts';

/** Opens one more client of the same run, as a second scheduler would; the suite closes what it opened. */
export type OpenCoordinator = () => Promise<Coordinator>;

const stale = (error: WhittleError): boolean =>
  error.code === 'STALE_GENERATION' && /step-00000020-g1 .* generation 1, but 2 is in force/.test(error.message);

/** What every Coordinator must do. `prepare` starts a fresh run and answers how to open clients of it. */
export function describeCoordinator(name: string, prepare: () => Promise<OpenCoordinator>): void {
  describe(`Coordinator: ${name}`, () => {
    let open: OpenCoordinator;
    let opened: Coordinator[];
    beforeEach(async () => {
      const openOne = await prepare();
      opened = [];
      open = async () => {
        const coordinator = await openOne();
        opened.push(coordinator);
        return coordinator;
      };
    });
    afterEach(async () => {
      for (const coordinator of opened) await coordinator.close();
    });

    it('starts with no checkpoint and no generation', async () => {
      const coordinator = await open();
      assert.equal(await coordinator.latest(), null);
      assert.deepEqual(await coordinator.lineage(), []);
    });

    it('takes generations in order, each with what it starts from', async () => {
      const coordinator = await open();
      assert.equal(await coordinator.takeGeneration(null), 1);
      await coordinator.commitLatest({ generation: 1, clock: 20, folder: 'step-00000020-g1' });
      assert.equal(await coordinator.takeGeneration({ clock: 10, checkpoint: 'step-00000010-g1' }), 2);
      assert.deepEqual(await coordinator.lineage(), [
        { generation: 1, from: null },
        { generation: 2, from: { clock: 10, checkpoint: 'step-00000010-g1' } },
      ]);
      // A rollback moves the latest back to where it starts from.
      assert.deepEqual(await coordinator.latest(), { generation: 2, clock: 10, folder: 'step-00000010-g1' });
    });

    it('refuses a latest of an older generation, also from a client that never heard of the newer one', async () => {
      const old = await open();
      assert.equal(await old.takeGeneration(null), 1);
      await old.commitLatest({ generation: 1, clock: 10, folder: 'step-00000010-g1' });
      const taker = await open();
      assert.equal(await taker.takeGeneration({ clock: 10, checkpoint: 'step-00000010-g1' }), 2);
      await assert.rejects(old.commitLatest({ generation: 1, clock: 20, folder: 'step-00000020-g1' }), stale);
      for (const coordinator of [old, taker]) {
        assert.deepEqual(await coordinator.latest(), { generation: 2, clock: 10, folder: 'step-00000010-g1' });
      }
    });

    it('refuses a latest of a generation that was never taken', async () => {
      const coordinator = await open();
      await assert.rejects(
        coordinator.commitLatest({ generation: 1, clock: 0, folder: 'step-00000000-g1' }),
        /never taken/,
      );
      assert.equal(await coordinator.latest(), null);
    });

    it('never moves the latest backwards within a generation; the same again changes nothing', async () => {
      const coordinator = await open();
      await coordinator.takeGeneration(null);
      const at20 = { generation: 1, clock: 20, folder: 'step-00000020-g1' };
      for (const latest of [at20, at20, { ...at20, clock: 10, folder: 'step-00000010-g1' }])
        await coordinator.commitLatest(latest);
      assert.deepEqual(await coordinator.latest(), at20);
    });

    it('gives no generation twice to clients that ask at one time', async () => {
      const clients = await Promise.all([open(), open(), open()]);
      const taken = await Promise.all(clients.flatMap((client) => [1, 2, 3, 4].map(() => client.takeGeneration(null))));
      assert.deepEqual(
        taken.sort((a, b) => a - b),
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
      );
      assert.equal((await clients[0].lineage()).length, 12);
    });

    it('remembers everything after it is closed', async () => {
      const first = await open();
      await first.takeGeneration(null);
      await first.commitLatest({ generation: 1, clock: 20, folder: 'step-00000020-g1' });
      const second = await open();
      assert.deepEqual(await second.latest(), { generation: 1, clock: 20, folder: 'step-00000020-g1' });
      assert.equal(await second.takeGeneration(null), 2);
      assert.equal(await second.latest(), null);
    });
  });
}
