import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createLogger, formatLogLine } from '../../../shared/telemetry/log.ts';

describe('the log', () => {
  let folder = '';
  beforeEach(async () => (folder = await mkdtemp(join(tmpdir(), 'whittle-log-'))));
  afterEach(() => rm(folder, { recursive: true }));

  it('writes one JSON object a line, with role, rank, run and step', async () => {
    const file = join(folder, 'logs', 'server-2.log');
    const log = createLogger({ role: 'server', rank: 2, runId: 'lenet', file });
    log.debug('not at this level');
    log.info({ step: 412, bytes: 9 }, 'applied');
    log.warn('late');
    log.error({ error: new TypeError('x is undefined') }, 'failed');
    await log.close();
    log.info('after the end');
    const text = await readFile(file, 'utf8');
    const lines = text.trim().split('\n');
    const records = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.equal(records.length, 3);
    const { time, ...rest } = records[0]!;
    assert.ok(Math.abs(Date.parse(time as string) - Date.now()) < 60_000);
    const member = { role: 'server', rank: 2, run: 'lenet' };
    assert.deepEqual(rest, { level: 'info', ...member, step: 412, bytes: 9, msg: 'applied' });
    assert.match(formatLogLine(lines[0]!), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} S\[2\] step 412 applied bytes=9$/);
    assert.match(formatLogLine(lines[1]!), / S\[2\] WARN late$/);
    assert.match(formatLogLine(lines[2]!), / S\[2\] ERROR failed\n {2}TypeError: x is undefined\n {6}at /);
  });

  it('appends', async () => {
    const file = join(folder, 'a.log');
    for (const rank of [0, 1]) {
      const log = createLogger({ role: 'worker', rank, runId: 'r', file });
      log.info('here');
      await log.close();
    }
    const lines = (await readFile(file, 'utf8')).trim().split('\n');
    assert.deepEqual(
      lines.map((line) => (JSON.parse(line) as { rank: number }).rank),
      [0, 1],
    );
  });

  it('loses nothing when the process exits or crashes', async () => {
    const module = pathToFileURL(join(import.meta.dirname, '../../../shared/telemetry/log.ts')).href;
    for (const end of ['process.exit(3)', 'setImmediate(() => { throw new Error("crash") })']) {
      const file = join(folder, `${end.length}.log`);
      const script = `import { createLogger } from ${JSON.stringify(module)};
        const log = createLogger({ role: 'worker', rank: 0, runId: 'r', file: ${JSON.stringify(file)} });
        for (let k = 0; k < 500; k++) log.info({ step: k }, 'line');
        ${end};`;
      const child = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script]);
      assert.notEqual(child.status, 0);
      const lines = (await readFile(file, 'utf8')).trim().split('\n');
      assert.equal(lines.length, 500, String(child.stderr));
      assert.match(lines[499]!, /"step":499/);
    }
  });

  it('leaves lines that are not its own as they are', () => {
    for (const line of ['', 'FATAL ERROR: heap out of memory', '[1, 2]', '{"a":1}', 'null']) {
      assert.equal(formatLogLine(line), line);
    }
    const scheduler = {
      level: 'info',
      time: '2026-08-01T12:00:00.123Z',
      role: 'scheduler',
      rank: 0,
      run: 'r',
      msg: 'up',
    };
    assert.equal(formatLogLine(JSON.stringify(scheduler)), '2026-08-01 12:00:00.123 scheduler up');
  });
});
