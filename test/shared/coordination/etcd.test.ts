import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import type { CoordinationConfig, EtcdConfig } from '../../../shared/config/types.ts';
import type { Coordinator } from '../../../shared/coordination/coordinator.ts';
import { openCoordinator } from '../../../shared/coordination/open.ts';
import type { WhittleError } from '../../../shared/errors.ts';
import { pause } from '../../../shared/rpc/deadline.ts';
import { describeCoordinator } from './conformance.ts';
import { AnswerThief, ETCD_MISSING, EtcdServers, hasEtcd } from './etcd-server.ts';
import { startMember } from './member-process.ts';

/** Long enough for a busy machine; tests that wait for the end of a lease take a shorter one. */
const LEASE_SECONDS = 5;

describe('etcd coordinator', () => {
  let servers: EtcdServers;
  /** Another client of the same etcd, to look and to meddle. */
  let meddler: Etcd3;
  let runId = '';
  let opened: Coordinator[] = [];

  before(async function () {
    if (!hasEtcd) {
      console.log(`      ${ETCD_MISSING}`);
      return this.skip();
    }
    servers = await EtcdServers.start(1);
    meddler = new Etcd3({ hosts: [...servers.endpoints] });
  });
  after(async () => {
    if (!hasEtcd) return;
    meddler.close();
    await servers.stop();
  });
  beforeEach(() => {
    runId = `run-${randomBytes(6).toString('hex')}`;
    opened = [];
  });
  const closeOpened = async (): Promise<void> => {
    await Promise.all(opened.splice(0).map((coordinator) => coordinator.close()));
  };
  afterEach(closeOpened);

  const configOf = (changes: Partial<EtcdConfig> = {}): CoordinationConfig => ({
    etcd: {
      endpoints: servers.endpoints,
      prefix: 'whittle/tests',
      leaseSeconds: LEASE_SECONDS,
      deadlineSeconds: 20,
      ...changes,
    },
  });
  const open = async (
    changes: Partial<EtcdConfig> = {},
    onWaiting: (message: string) => void = () => undefined,
  ): Promise<Coordinator> => {
    const coordinator = await openCoordinator(configOf(changes), `/runs/${runId}`, { onWaiting });
    opened.push(coordinator);
    return coordinator;
  };
  const key = (name: string): string => `whittle/tests/${runId}/${name}`;

  describeCoordinator('etcd', () => {
    const id = runId;
    return Promise.resolve({
      config: configOf(),
      runDirectory: `/runs/${id}`,
      takeOfficeAway: async () => {
        const office = `whittle/tests/${id}/office`;
        const value = await meddler.get(office).string();
        await meddler.delete().key(office);
        await meddler.put(office).value(value!);
      },
    });
  });

  it('keeps runs apart by their ids and prefixes', async () => {
    const one = await open();
    const two = await open({ prefix: 'other' });
    assert.equal(await one.takeGeneration(null), 1);
    assert.equal(await two.takeGeneration(null), 1);
    await (await one.campaign({ address: 'one:1' })).resign();
  });

  for (const [what, where, act] of [
    ['a generation', 'generation', (one: Coordinator) => one.takeGeneration(null)],
    ['the office', 'office', (one: Coordinator) => one.campaign({ address: 'me:1' })],
  ] as const) {
    it(`takes ${what} once, though the answer got lost`, async () => {
      const thief = await AnswerThief.before(servers.endpoints[0]!);
      try {
        const coordinator = await open({ endpoints: [thief.endpoint] });
        await coordinator.latest();
        thief.steal();
        const taken = act(coordinator);
        for (;;) {
          // What was stolen before a look that finds nothing cannot be the answer to what has been written.
          const passOn = thief.takeStolen();
          if ((await meddler.get(key(where)).string()) !== null) break;
          passOn();
        }
        thief.letGo();
        const got = await taken;
        if (where === 'generation') assert.equal(got, 1);
        else assert.equal((await coordinator.leader())?.address, 'me:1');
        assert.equal((await meddler.get(key(where)).exec()).kvs[0]!.version, '1');
        assert.equal((await coordinator.lineage()).length, where === 'generation' ? 1 : 0);
      } finally {
        await closeOpened();
        await thief.stop();
      }
    });
  }

  it('decides again where another latest was committed between its look and its transaction', async () => {
    const thief = await AnswerThief.before(servers.endpoints[0]!);
    try {
      const slow = await open({ endpoints: [thief.endpoint] });
      const quick = await open();
      await slow.takeGeneration({ clock: 5, checkpoint: 'step-5' });
      thief.steal();
      const commit = slow.commitLatest({ generation: 1, clock: 10, folder: 'step-10' });
      while (!thief.hasStolen('step-5')) await pause(5, 'the look');
      await quick.commitLatest({ generation: 1, clock: 40, folder: 'step-40' });
      thief.stopStealing();
      await commit;
      assert.equal((await quick.latest())?.clock, 40);
    } finally {
      await closeOpened();
      await thief.stop();
    }
  });

  it('creates the key of the office once, however many want it at one time', async () => {
    const clients = await Promise.all(Array.from({ length: 6 }, () => open()));
    await Promise.allSettled(clients.map((client) => client.campaign({ address: 'c:1' })));
    assert.equal((await meddler.get(key('office')).exec()).kvs[0]!.version, '1');
  });

  it('hands over when a holder that cannot be seen is paused, and refuses what it does when it wakes', async () => {
    const child = await startMember(configOf({ leaseSeconds: 1 }), `/runs/${runId}`);
    try {
      await child.ask('campaign');
      assert.equal(await child.ask('take'), '1');
      assert.equal(await child.ask('commit 1 10'), 'committed');
      const standby = await open();
      const inOffice = standby.campaign({ address: 'standby:1', standby: true });
      child.signal('SIGSTOP');
      // Stopped is not dead: only the end of the lease tells.
      const office = await inOffice;
      child.signal('SIGCONT');
      // The new one adopted the generation: what refuses the old one is the office.
      assert.equal(await child.ask('commit 1 20'), 'RUN_LOCKED');
      assert.equal(await child.ask('take'), 'RUN_LOCKED');
      assert.equal(await child.ask('lost'), 'lost');
      assert.equal(await standby.takeGeneration({ clock: 10, checkpoint: 'step-10' }), 2);
      assert.equal(await child.ask('commit 1 30'), 'STALE_GENERATION');
      assert.equal((await standby.latest())?.clock, 10);
      assert.equal(office.lost.aborted, false);
    } finally {
      await child.kill();
    }
  });

  it('hands over the office of a dead holder on another host when its lease ends', async () => {
    const child = await startMember(configOf({ leaseSeconds: 1 }), `/runs/${runId}`);
    await child.ask('campaign');
    await child.ask('announce 0');
    const lease = (await meddler.get(key('office')).exec()).kvs[0]!.lease;
    const text = (await meddler.get(key('office')).string())!;
    await meddler
      .put(key('office'))
      .value(text.replace(/"host":"[^"]*"/, '"host":"elsewhere"'))
      .lease(lease);
    await child.kill();
    const coordinator = await open();
    assert.equal((await coordinator.leader())?.host, 'elsewhere');
    await assert.rejects(coordinator.campaign({ address: 'me:1' }), /on host elsewhere .*try again 5 s after its end/);
    await coordinator.campaign({ address: 'me:1', standby: true });
    assert.equal((await coordinator.leader())?.address, 'me:1');
  });

  it('refuses values that are not its own', async () => {
    await meddler.put(key('latest')).value('{"step": 3}');
    const coordinator = await open();
    await assert.rejects(coordinator.latest(), /\[CHECKPOINT\] etcd's value of latest is not Whittle's.*prefix/);
  });

  it('does not leave an etcd whose watches it ends', async () => {
    const thief = await AnswerThief.before(servers.endpoints[0]!);
    try {
      const watcher = await open({ endpoints: [thief.endpoint] });
      const other = await open();
      for (let k = 0; k < 3; k++) {
        let stop = (): void => undefined;
        const isIn = new Promise<void>((resolve) => {
          stop = watcher.watchLeader((leader) => {
            if (leader !== null) resolve();
          });
        });
        const office = await other.campaign({ address: 'other:1' });
        await isIn;
        stop();
        await office.resign();
        await watcher.leader();
      }
      assert.equal(thief.connections, 1);
    } finally {
      await closeOpened();
      await thief.stop();
    }
  });

  describe('without an etcd', () => {
    it('waits until the deadline, says for what, and names the cure', async () => {
      const own = await EtcdServers.start(1);
      await own.stop();
      const told: string[] = [];
      const coordinator = await open({ endpoints: own.endpoints, deadlineSeconds: 3 }, (message) => told.push(message));
      await assert.rejects(coordinator.takeGeneration(null), (error: WhittleError) => {
        assert.equal(error.code, 'DEADLINE');
        assert.equal(error.retryable, true);
        assert.match(
          error.message,
          /waited 3 s for etcd to take a generation; .* etcd at http:\/\/127.* does not answer/,
        );
        return true;
      });
      assert.match(told.join('\n'), /waiting for etcd to take a generation, for \d s now: .*does not answer/);
    });

    it('ends what waits when it is closed', async () => {
      const own = await EtcdServers.start(1);
      await own.stop();
      const coordinator = await open({ endpoints: own.endpoints });
      const waits = [coordinator.takeGeneration(null), coordinator.campaign({ address: 'a:1', standby: true })];
      const ended = waits.map((each) => assert.rejects(each, { code: 'INTERRUPTED' }));
      await coordinator.close();
      await Promise.all(ended);
    });

    it('goes on when it is back: operations, the office, announcements, standbys and watchers', async () => {
      const own = await EtcdServers.start(1);
      try {
        let tell = (_message: string): void => undefined;
        const told = (wanted: RegExp): Promise<void> =>
          new Promise((resolve) => {
            tell = (message) => {
              if (wanted.test(message)) resolve();
            };
          });
        const holder = await open({ endpoints: own.endpoints }, (message) => tell(message));
        const other = await open({ endpoints: own.endpoints });
        const office = await holder.campaign({ address: 'holder:1' });
        const announcement = await holder.announce({ role: 'server', rank: 0, address: 's:1', host: 'h', pid: 1 });
        assert.equal(await holder.takeGeneration(null), 1);
        let standbyIsIn = false;
        const standby = other.campaign({ address: 'standby:1', standby: true }).then(() => (standbyIsIn = true));
        const waits = told(/waiting for etcd/);
        await own.kill(0);
        const commit = holder.commitLatest({ generation: 1, clock: 7, folder: 'step-7' });
        await waits;
        const isBack = told(/etcd answers again after \d+ s/);
        await own.launch(0);
        await commit;
        await isBack;
        assert.deepEqual(await other.latest(), { generation: 1, clock: 7, folder: 'step-7' });
        assert.equal(office.lost.aborted, false);
        assert.equal(announcement.lost.aborted, false);
        assert.equal((await other.leader())?.address, 'holder:1');
        assert.equal((await other.members()).length, 1);
        assert.equal(standbyIsIn, false);
        await office.resign();
        await standby;
        assert.equal((await holder.leader())?.address, 'standby:1');
      } finally {
        await closeOpened();
        await own.stop();
      }
    });
  });

  it('of three members does not notice the loss of one, whichever it is', async () => {
    const three = await EtcdServers.start(3);
    try {
      const coordinator = await open({ endpoints: three.endpoints });
      const office = await coordinator.campaign({ address: 'me:1' });
      for (const lost of [0, 1, 2]) {
        await three.kill(lost);
        for (let k = 0; k < 3; k++) {
          const generation = await coordinator.takeGeneration(null);
          assert.equal(generation, 3 * lost + k + 1);
          await coordinator.commitLatest({ generation, clock: k, folder: `step-${k}` });
        }
        assert.equal((await coordinator.leader())?.token, office.token);
        await three.launch(lost);
      }
      assert.equal((await coordinator.lineage()).length, 9);
      assert.equal(office.lost.aborted, false);
    } finally {
      await closeOpened();
      await three.stop();
    }
  });

  it('speaks TLS with certificates of both sides', async function () {
    if (spawnSync('openssl', ['version']).status !== 0) return this.skip();
    const folder = mkdtempSync(join(tmpdir(), 'whittle-certificates-'));
    const [certificate, key] = [join(folder, 'own.pem'), join(folder, 'own.key')];
    const self = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=whittle'];
    const names = ['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', certificate];
    execFileSync('openssl', [...self, ...names], { stdio: 'ignore' });
    // Signed by itself, so its own authority; etcd asks for one of ours, too.
    const extra = [
      '--cert-file',
      certificate,
      '--key-file',
      key,
      '--trusted-ca-file',
      certificate,
      '--client-cert-auth',
    ];
    const own = await EtcdServers.start(1, { scheme: 'https', extra });
    try {
      const changes = { endpoints: own.endpoints, deadlineSeconds: 2 };
      const known = await open({ ...changes, certificates: { ca: certificate, certificate, key } });
      assert.equal(await known.takeGeneration(null), 1);
      const stranger = await open({ ...changes, certificates: { ca: certificate } });
      await assert.rejects(stranger.latest(), { code: 'DEADLINE' });
      const missing = { ca: join(folder, 'no.pem') };
      await assert.rejects(open({ ...changes, certificates: missing }), /certificates\.ca .*no\.pem cannot be read/);
    } finally {
      await closeOpened();
      await own.stop();
      rmSync(folder, { recursive: true });
    }
  });

  it('authenticates, and says so when it is refused', async () => {
    const own = await EtcdServers.start(1);
    const admin = new Etcd3({ hosts: [...own.endpoints] });
    const auth = { username: 'root', password: 'secret' };
    try {
      await admin.user('root').create('secret');
      await admin.role('root').create();
      await admin.user('root').addRole('root');
      await admin.auth.authEnable();
      const known = await open({ endpoints: own.endpoints, ...auth });
      assert.equal(await known.takeGeneration(null), 1);
      const office = await known.campaign({ address: 'me:1' });
      assert.equal((await known.leader())?.token, office.token);
      for (const changes of [{}, { ...auth, password: 'guess' }]) {
        const stranger = await open({ endpoints: own.endpoints, ...changes });
        await assert.rejects(stranger.latest(), (error: WhittleError) => {
          assert.equal(error.code, 'RUN_FILE');
          assert.match(error.message, /refuses the user .*coordination\.etcd\.username.*WHITTLE_ETCD_PASSWORD/);
          return true;
        });
      }
      await assert.rejects(
        open({ endpoints: own.endpoints, username: 'root' }),
        /no password; set WHITTLE_ETCD_PASSWORD/,
      );
    } finally {
      await closeOpened();
      admin.close();
      await own.stop();
    }
  });
});
