import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import type { WhittleError } from '../../../shared/errors.ts';
import { acquireRunLock, LOCK_FILE, readRunLock, type LockHolder } from '../../../shared/coordination/lock.ts';
import { REFRESH_MILLISECONDS, STALE_MILLISECONDS } from '../../../shared/coordination/presence.ts';
import { packageRoot } from '../../../shared/package-root.ts';

/** Takes the lock of argv[1] when a line arrives on stdin, and says `held` or the error's message; holds it until killed. */
const TAKER = `
  const { acquireRunLock } = await import(${JSON.stringify(pathToFileURL(join(packageRoot, 'shared/coordination/lock.ts')).href)});
  console.log('ready');
  process.stdin.once('data', () => acquireRunLock(process.argv[1], { address: 'child:1' }).then(() => console.log('held'), (error) => console.log(error.message)));`;

const isLocked = (error: WhittleError): boolean => error.code === 'RUN_LOCKED' && error.exitCode === 2;

describe('run lock', () => {
  let run = '';
  let path = '';
  const children: ChildProcess[] = [];
  beforeEach(() => {
    run = mkdtempSync(join(tmpdir(), 'whittle-lock-'));
    path = join(run, LOCK_FILE);
  });
  afterEach(async () => {
    for (const child of children.splice(0)) await end(child);
    rmSync(run, { recursive: true });
  });

  async function startTaker(): Promise<{ child: ChildProcess; take: () => Promise<string> }> {
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', TAKER, run], {
      cwd: packageRoot,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    children.push(child);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, 'ready');
    return {
      child,
      take: async () => {
        child.stdin.write('\n');
        return String((await lines.next()).value);
      },
    };
  }

  /** What `run.lock` says, changed. */
  function rewrite(change: Partial<LockHolder>): void {
    writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, 'utf8')) as LockHolder), ...change }));
  }
  function age(milliseconds: number): void {
    const then = (Date.now() - milliseconds) / 1000;
    utimesSync(path, then, then);
  }

  it('is held by one, names the holder and the cure, and leaves nothing after release', async () => {
    const lock = await acquireRunLock(run, { address: '127.0.0.1:7000' });
    await assert.rejects(acquireRunLock(run, { address: 'other' }), (error: WhittleError) => {
      assert.ok(isLocked(error));
      assert.match(error.message, new RegExp(`pid ${process.pid} on host .*127\\.0\\.0\\.1:7000.*whittle stop`));
      return true;
    });
    assert.deepEqual(await readRunLock(run), lock.holder);
    await lock.release();
    await lock.release();
    assert.deepEqual(readdirSync(run), []);
    assert.equal(await readRunLock(run), null);
  });

  it('excludes a second real process, and is taken over at once from one killed', async () => {
    const { child, take } = await startTaker();
    assert.equal(await take(), 'held');
    await assert.rejects(
      acquireRunLock(run, { address: 'me' }),
      new RegExp(`held by the scheduler with pid ${child.pid} `),
    );
    assert.equal((await readRunLock(run))?.address, 'child:1');
    await end(child);
    assert.equal(await readRunLock(run), null);
    const lock = await acquireRunLock(run, { address: 'me' });
    assert.deepEqual(readdirSync(run), [LOCK_FILE]);
    await lock.release();
  });

  it('is won by exactly one of several processes that want a free or a dead lock at one time', async () => {
    const takers = await Promise.all([startTaker(), startTaker(), startTaker()]);
    const first = await Promise.all(takers.map(({ take }) => take()));
    assert.equal(first.filter((answer) => answer === 'held').length, 1, first.join('\n'));
    const holder = takers[first.indexOf('held')]!;
    await end(holder.child);
    const rest = await Promise.all([...takers.filter((taker) => taker !== holder).map(startAgain), startTaker()]);
    const second = await Promise.all(rest.map(({ take }) => take()));
    assert.equal(second.filter((answer) => answer === 'held').length, 1, second.join('\n'));
  });
  const startAgain = (): ReturnType<typeof startTaker> => startTaker();

  it('is won by exactly one of many takers of a dead lock within a process', async () => {
    for (let round = 0; round < 20; round++) {
      const old = await acquireRunLock(run, { address: 'old' });
      rewrite({ processStart: '1' });
      const answers = await Promise.allSettled(
        Array.from({ length: 8 }, () => acquireRunLock(run, { address: 'new' })),
      );
      const won = answers.filter((answer) => answer.status === 'fulfilled');
      assert.equal(won.length, 1);
      assert.ok(answers.every((answer) => answer.status === 'fulfilled' || isLocked(answer.reason as WhittleError)));
      await old.release();
      assert.equal(
        (await readRunLock(run))?.token,
        won[0]!.value.holder.token,
        'a lock taken over is not released by its old holder',
      );
      await won[0]!.value.release();
      assert.deepEqual(readdirSync(run), []);
    }
  });

  it('is taken over from a process whose pid now belongs to another', async () => {
    const old = await acquireRunLock(run, { address: 'old' });
    rewrite({ processStart: '1' });
    const lock = await acquireRunLock(run, { address: 'new' });
    assert.equal((await readRunLock(run))?.address, 'new');
    await lock.release();
    await old.release();
  });

  for (const elsewhere of [{ host: 'elsewhere' }, { pidSpace: 'another boot or container' }]) {
    it(`of a process that cannot be seen (${Object.keys(elsewhere).join()}) holds while it is fresh`, async () => {
      const old = await acquireRunLock(run, { address: 'there' });
      rewrite({ ...elsewhere, pid: 2 ** 22 + 1 });
      age(STALE_MILLISECONDS - 5_000);
      await assert.rejects(acquireRunLock(run, { address: 'me' }), isLocked);
      assert.equal((await readRunLock(run))?.address, 'there');
      age(STALE_MILLISECONDS + 1_000);
      assert.equal(await readRunLock(run), null);
      await (await acquireRunLock(run, { address: 'me' })).release();
      await old.release();
    });
  }

  it('of a successor that died half way is succeeded in turn', async () => {
    const old = await acquireRunLock(run, { address: 'old' });
    // The successor linked its claim and died before it renamed its file over the lock.
    writeFileSync(
      `${path}.${old.holder.token}.next`,
      JSON.stringify({ ...old.holder, processStart: '2', token: '0'.repeat(16) }),
    );
    rewrite({ processStart: '1' });
    const lock = await acquireRunLock(run, { address: 'third' });
    assert.deepEqual(readdirSync(run), [LOCK_FILE]);
    await lock.release();
    await old.release();
  });

  it('that is half written or damaged holds while fresh, and is an old one then', async () => {
    writeFileSync(path, '{"host":');
    await assert.rejects(acquireRunLock(run, { address: 'me' }), isLocked);
    age(STALE_MILLISECONDS + 1_000);
    await (await acquireRunLock(run, { address: 'me' })).release();
  });

  it('is refreshed while held, and its loss is told', async () => {
    const lock = await acquireRunLock(run, { address: 'me' });
    age(10_000);
    const refreshed = async (): Promise<void> => {
      while (Date.now() - (await modified()) > 5_000) await tick();
    };
    await refreshed();
    assert.deepEqual(await readRunLock(run), lock.holder);
    rewrite({ token: 'f'.repeat(16) });
    if (!lock.lost.aborted) await once(lock.lost, 'abort');
    await lock.release();
    assert.equal(readdirSync(run).length, 1);
  }).timeout(10 * REFRESH_MILLISECONDS);

  it('in a folder that is not there is a DISK error that names it', async () => {
    await assert.rejects(
      acquireRunLock(join(run, 'gone'), { address: 'me' }),
      /\[DISK\] cannot write .*gone\/run\.lock: its folder does not exist/,
    );
  });

  async function modified(): Promise<number> {
    const { stat } = await import('node:fs/promises');
    return (await stat(path)).mtimeMs;
  }
});

async function tick(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 50));
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}
