import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { CoordinationConfig } from '../../../shared/config/types.ts';
import type { AnnouncedMember, Coordinator, Leader } from '../../../shared/coordination/coordinator.ts';
import { openCoordinator } from '../../../shared/coordination/open.ts';
import type { WhittleError } from '../../../shared/errors.ts';
import { startMember, type MemberProcess } from './member-process.ts';

export interface RunUnderTest {
  readonly config: CoordinationConfig;
  readonly runDirectory: string;
  /** Puts somebody else in office, as far as the holder can see, without asking it. */
  takeOfficeAway(): Promise<void>;
}

const stale = (error: WhittleError): boolean =>
  error.code === 'STALE_GENERATION' && /step-00000020-g1 .* generation 1, but 2 is in force/.test(error.message);
const locked = { code: 'RUN_LOCKED' };
const worker = (rank: number, address: string): AnnouncedMember => ({
  role: 'worker',
  rank,
  address,
  host: 'there',
  pid: 7,
});

/** What every Coordinator must do. `prepare` starts a fresh run. */
export function describeCoordinator(name: string, prepare: () => Promise<RunUnderTest>): void {
  describe(`Coordinator: ${name}`, () => {
    let run: RunUnderTest;
    let opened: Coordinator[];
    let children: MemberProcess[];
    beforeEach(async () => {
      run = await prepare();
      opened = [];
      children = [];
    });
    afterEach(async () => {
      for (const child of children) await child.kill();
      for (const coordinator of opened) await coordinator.close();
    });
    /** One more client of the same run, as a second scheduler would be. */
    const open = async (): Promise<Coordinator> => {
      const coordinator = await openCoordinator(run.config, run.runDirectory);
      opened.push(coordinator);
      return coordinator;
    };
    const startChild = async (): Promise<MemberProcess> => {
      const child = await startMember(run.config, run.runDirectory);
      children.push(child);
      return child;
    };

    describe('generations and the latest checkpoint', () => {
      it('start with none', async () => {
        const coordinator = await open();
        assert.equal(await coordinator.latest(), null);
        assert.deepEqual(await coordinator.lineage(), []);
      });

      it('are taken in order, each with what it starts from', async () => {
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

      it('refuse a latest of an older generation, also from a client that never heard of the newer one', async () => {
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

      it('refuse a latest of a generation that was never taken', async () => {
        const coordinator = await open();
        await assert.rejects(
          coordinator.commitLatest({ generation: 1, clock: 0, folder: 'step-00000000-g1' }),
          /never taken/,
        );
        assert.equal(await coordinator.latest(), null);
      });

      it('never move the latest backwards within a generation; the same again changes nothing', async () => {
        const coordinator = await open();
        await coordinator.takeGeneration(null);
        const at20 = { generation: 1, clock: 20, folder: 'step-00000020-g1' };
        for (const latest of [at20, at20, { ...at20, clock: 10, folder: 'step-00000010-g1' }])
          await coordinator.commitLatest(latest);
        assert.deepEqual(await coordinator.latest(), at20);
      });

      it('keep the highest of latests that are committed at one time', async () => {
        const clients = await Promise.all([open(), open(), open()]);
        await clients[0].takeGeneration(null);
        const clocks = [5, 40, 10, 30, 15, 35, 20, 25];
        await Promise.all(
          clocks.map((clock, k) => clients[k % 3]!.commitLatest({ generation: 1, clock, folder: `step-${clock}` })),
        );
        assert.deepEqual(await clients[1].latest(), { generation: 1, clock: 40, folder: 'step-40' });
      });

      it('give no number twice to clients that ask at one time, and each client rising ones', async () => {
        const clients = await Promise.all([open(), open(), open()]);
        const taken: number[][] = await Promise.all(
          clients.map(async (client) => {
            const own: number[] = [];
            for (let k = 0; k < 4; k++) own.push(await client.takeGeneration(null));
            return own;
          }),
        );
        const rising = (numbers: readonly number[]): number[] => numbers.toSorted((a, b) => a - b);
        for (const own of taken) assert.deepEqual(own, rising(own));
        assert.deepEqual(rising(taken.flat()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert.deepEqual(
          (await clients[0].lineage()).map(({ generation }) => generation),
          [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        );
      });

      it('are remembered after closing', async () => {
        const first = await open();
        await first.takeGeneration(null);
        await first.commitLatest({ generation: 1, clock: 20, folder: 'step-00000020-g1' });
        await first.close();
        const second = await open();
        assert.deepEqual(await second.latest(), { generation: 1, clock: 20, folder: 'step-00000020-g1' });
        assert.equal(await second.takeGeneration(null), 2);
        assert.equal(await second.latest(), null);
      });
    });

    describe('the office', () => {
      it('has one holder, who is named with the cure, and is free after resigning', async () => {
        const [one, two] = await Promise.all([open(), open()]);
        assert.equal(await two.leader(), null);
        const office = await one.campaign({ address: '127.0.0.1:7000' });
        await assert.rejects(two.campaign({ address: 'two:1' }), (error: WhittleError) => {
          assert.equal(error.code, 'RUN_LOCKED');
          assert.match(error.message, new RegExp(`pid ${process.pid} on host .*127\\.0\\.0\\.1:7000.*whittle stop`));
          return true;
        });
        const { address, token, pid, generation } = (await two.leader())!;
        assert.deepEqual(
          { address, token, pid, generation },
          {
            address: '127.0.0.1:7000',
            token: office.token,
            pid: process.pid,
            generation: undefined,
          },
        );
        await one.takeGeneration(null);
        assert.equal((await two.leader())?.generation, 1);
        await office.resign();
        await office.resign();
        await assert.rejects(one.takeGeneration(null), locked);
        assert.equal(office.lost.aborted, false, 'to resign is not to lose');
        assert.equal(await two.leader(), null);
        const next = await two.campaign({ address: 'two:1' });
        assert.notEqual(next.token, office.token);
        await office.resign();
        assert.equal((await one.leader())?.address, 'two:1', 'an office given back is not given back again');
      });

      it('is won by exactly one of many that want it at one time', async () => {
        const clients = await Promise.all(Array.from({ length: 8 }, open));
        const answers = await Promise.allSettled(clients.map((client, k) => client.campaign({ address: `c:${k}` })));
        assert.equal(answers.filter(({ status }) => status === 'fulfilled').length, 1);
        for (const answer of answers)
          if (answer.status === 'rejected') assert.equal((answer.reason as WhittleError).code, 'RUN_LOCKED');
      });

      it('goes from one standby to the next, and is never held by two', async () => {
        const clients = await Promise.all(Array.from({ length: 4 }, open));
        let holders = 0;
        const tokens = await Promise.all(
          clients.map(async (client, k) => {
            const office = await client.campaign({ address: `c:${k}`, standby: true });
            assert.equal(++holders, 1);
            await client.takeGeneration(null);
            assert.equal(holders--, 1);
            await office.resign();
            return office.token;
          }),
        );
        assert.equal(new Set(tokens).size, 4);
        assert.equal((await clients[0]!.lineage()).length, 4);
      });

      it('lets a standby say for whom it waits, and give up', async () => {
        const [holder, standby] = await Promise.all([open(), open()]);
        const office = await holder.campaign({ address: 'holder:1' });
        const giveUp = new AbortController();
        let campaign: Promise<unknown> = Promise.resolve();
        const told = await new Promise<string>((onWaiting) => {
          campaign = standby.campaign({ address: 's:1', standby: true, signal: giveUp.signal, onWaiting });
          campaign.catch((error: WhittleError) => onWaiting(error.message));
        });
        assert.match(told, /standing by: .* held by the scheduler .* holder:1/);
        giveUp.abort();
        await assert.rejects(campaign, { code: 'INTERRUPTED' });
        assert.equal((await standby.leader())?.token, office.token);
        assert.equal(office.lost.aborted, false);
      });

      it('of a process killed with -9 goes to a standby, and at once to one who asks', async () => {
        const coordinator = await open();
        const [first, second] = await Promise.all([startChild(), startChild()]);
        for (const [child, standby] of [
          [first, true],
          [second, false],
        ] as const) {
          const token = await child.ask('campaign');
          assert.equal((await coordinator.leader())?.address, 'child:1');
          await assert.rejects(coordinator.campaign({ address: 'me:1' }), locked);
          const inOffice = standby ? coordinator.campaign({ address: 'me:1', standby }) : null;
          await child.kill();
          const office = await (inOffice ?? coordinator.campaign({ address: 'me:1' }));
          assert.notEqual(office.token, token);
          assert.equal((await coordinator.leader())?.token, office.token);
          await office.resign();
        }
      });

      it('that was taken away is told as lost, and everything its holder does then is refused', async () => {
        const coordinator = await open();
        const office = await coordinator.campaign({ address: 'me:1' });
        await coordinator.takeGeneration(null);
        await run.takeOfficeAway();
        await assert.rejects(coordinator.takeGeneration(null), locked);
        await assert.rejects(coordinator.commitLatest({ generation: 1, clock: 1, folder: 'f' }), locked);
        if (!office.lost.aborted) await once(office.lost, 'abort');
        assert.equal((office.lost.reason as WhittleError).code, 'RUN_LOCKED');
        assert.equal(await coordinator.latest(), null);
        assert.equal((await coordinator.lineage()).length, 1);
        await office.resign();
      });

      it('is followed by those who watch', async () => {
        const [one, two, watcher] = await Promise.all([open(), open(), open()]);
        const seen: (Leader | null)[] = [];
        let wake = (): void => undefined;
        const stop = watcher.watchLeader((leader) => {
          seen.push(leader);
          wake();
        });
        const until = async (address: string | null): Promise<void> => {
          while (seen.length === 0 || (seen.at(-1)?.address ?? null) !== address)
            await new Promise<void>((resolve) => (wake = resolve));
        };
        await until(null);
        const office = await one.campaign({ address: 'one:1' });
        await until('one:1');
        await office.resign();
        await until(null);
        const last = await two.campaign({ address: 'two:1' });
        await until('two:1');
        assert.deepEqual(
          seen.map((leader) => leader?.address ?? null),
          [null, 'one:1', null, 'two:1'],
        );
        stop();
        await last.resign();
        await one.campaign({ address: 'three:1' });
        assert.equal(seen.length, 4);
      });

      it('is given up by closing', async () => {
        const [one, two] = await Promise.all([open(), open()]);
        await one.campaign({ address: 'one:1' });
        await one.announce(worker(0, ''));
        await one.close();
        assert.equal(await two.leader(), null);
        assert.deepEqual(await two.members(), []);
        await (await two.campaign({ address: 'two:1' })).resign();
      });
    });

    describe('announcements', () => {
      it('are seen by all, in order, until withdrawn', async () => {
        const [one, two] = await Promise.all([open(), open()]);
        assert.deepEqual(await two.members(), []);
        const server: AnnouncedMember = { ...worker(1, 'host:9'), role: 'server' };
        const announcements = [
          await one.announce(worker(10, 'host:10')),
          await two.announce(worker(2, 'host:2')),
          await two.announce(server),
        ];
        for (const client of [one, two])
          assert.deepEqual(await client.members(), [server, worker(2, 'host:2'), worker(10, 'host:10')]);
        await announcements[1]!.withdraw();
        await announcements[1]!.withdraw();
        assert.deepEqual(await one.members(), [server, worker(10, 'host:10')]);
        assert.equal(announcements[1]!.lost.aborted, false);
      });

      it('are replaced by those of the same rank, and the old one is told', async () => {
        const [one, two] = await Promise.all([open(), open()]);
        const old = await one.announce(worker(3, 'old:1'));
        const now = await two.announce(worker(3, 'new:1'));
        assert.deepEqual(await one.members(), [worker(3, 'new:1')]);
        if (!old.lost.aborted) await once(old.lost, 'abort');
        assert.match((old.lost.reason as Error).message, /\[ROLE_LOST\] the announcement of worker\[3\]/);
        await old.withdraw();
        assert.deepEqual(await one.members(), [worker(3, 'new:1')], 'the old one withdraws nothing of the new one');
        assert.equal(now.lost.aborted, false);
      });

      it('of processes killed with -9 end', async () => {
        const coordinator = await open();
        const child = await startChild();
        assert.equal(await child.ask('announce 4'), 'announced');
        assert.deepEqual(
          (await coordinator.members()).map(({ rank, pid }) => ({ rank, pid })),
          [{ rank: 4, pid: child.pid }],
        );
        await child.kill();
        assert.deepEqual(await coordinator.members(), []);
      });
    });
  });
}
