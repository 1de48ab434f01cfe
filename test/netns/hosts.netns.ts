import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runConfigToYaml } from '../../shared/config/effective.ts';
import { loadRunFile } from '../../shared/config/run-file.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { describeJob } from '../../worker/training/describe.ts';
import { digestsOf, finish, readMetrics, until, WHITTLE, whittle } from '../cluster/support.ts';

const BRIDGE = 'whittle0';
const HOSTS = [1, 2, 3, 4] as const;
const addressOf = (host: number): string => `10.77.0.${host}`;
const spaceOf = (host: number): string => `whittle-h${host}`;
const STEPS = Number(process.env['WHITTLE_NETNS_STEPS'] ?? 600);
const RUN_ID = 'four-hosts-run';

/**
 * Four hosts as network namespaces on one bridge: etcd on the first, the scheduler on the second, servers on the second
 * and third, workers on the third and fourth; mutual TLS between all, etcd included. Needs root, `ip`, `tcpdump` and
 * `etcd`. WHITTLE_NETNS_STEPS=5616 makes it the main job.
 */
describe('a run over four hosts', function () {
  this.timeout(600_000);
  const processes: ChildProcess[] = [];
  let folder = '';

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'whittle-netns-'));
    takeDown();
    ip('link', 'add', BRIDGE, 'type', 'bridge');
    ip('link', 'set', BRIDGE, 'up');
    for (const host of HOSTS) {
      ip('netns', 'add', spaceOf(host));
      ip('link', 'add', `wh${host}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', spaceOf(host));
      ip('link', 'set', `wh${host}`, 'master', BRIDGE, 'up');
      ip('-n', spaceOf(host), 'addr', 'add', `${addressOf(host)}/24`, 'dev', 'eth0');
      ip('-n', spaceOf(host), 'link', 'set', 'eth0', 'up');
      ip('-n', spaceOf(host), 'link', 'set', 'lo', 'up');
    }
  });

  after(async () => {
    for (const each of processes) each.kill('SIGKILL');
    takeDown();
    await rm(folder, { recursive: true, force: true });
  });

  it('trains, outlives a partition of one host, and shows no plain text to a capture', async () => {
    const certs = join(folder, 'certs');
    const made = await whittle(['certs', '--out', certs, '--hosts', HOSTS.map(addressOf).join(',')]);
    assert.equal(made.code, 0, made.stderr);
    const [ca, certificate, key] = ['ca.pem', 'cert.pem', 'key.pem'].map((name) => join(certs, name)) as [
      string,
      string,
      string,
    ];
    await startEtcd({ ca, certificate, key });

    const capture = join(folder, 'capture.pcap');
    const tcpdump = run(['tcpdump', '-i', BRIDGE, '-U', '-s', '0', '-w', capture]);
    await until('the capture to begin', () => (existsSync(capture) ? true : null));

    const directory = await prepareRun({
      security: { certificates: certs, insecure: false },
      coordination: {
        etcd: { endpoints: [`https://${addressOf(1)}:2379`], certificates: { ca, certificate, key } },
      },
    });
    const role = (host: number, name: string, rank: number): ChildProcess =>
      run(
        [
          ...['ip', 'netns', 'exec', spaceOf(host), process.execPath, WHITTLE, name, '--run-dir', directory.path],
          ...['--host', '0.0.0.0', '--advertise', addressOf(host)],
          ...(name === 'scheduler' ? [] : ['--rank', String(rank)]),
        ],
        (text) => (said += text),
      );
    let said = '';
    const scheduler = role(2, 'scheduler', 0);
    const ended = new Promise<number | null>((resolve) => scheduler.once('exit', resolve));
    role(2, 'server', 0);
    role(3, 'server', 1);
    role(3, 'worker', 0);
    role(4, 'worker', 1);

    await untilStep(directory, Math.floor(STEPS / 3), () => said);
    ip('link', 'set', 'wh3', 'down');
    const cut = (await readMetrics(directory.path)).at(-1)?.step ?? 0;
    // The third host holds a shard: nothing can go on without it.
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    const still = (await readMetrics(directory.path)).at(-1)?.step ?? 0;
    assert.ok(still <= cut + 5, `${still - cut} steps were recorded while the third host was cut off`);
    ip('link', 'set', 'wh3', 'up');

    assert.equal(await ended, 0, said);
    const result = JSON.parse(await readFile(directory.resultFile, 'utf8')) as RunResult;
    assert.equal(result.state, 'SUCCEEDED');
    tcpdump.kill('SIGINT');
    await new Promise((resolve) => tcpdump.once('exit', resolve));

    const token = (await readFile(join(certs, 'token'), 'utf8')).trim();
    const found = await search(capture, [
      RUN_ID,
      'dense_1/kernel',
      token,
      'worker[',
      'runFile',
      'generation',
      'Bearer',
    ]);
    assert.deepEqual(found.hits, [], 'plain text on the wire');
    assert.ok(found.bytes > result.bytes.pushed, `${found.bytes} bytes captured, ${result.bytes.pushed} pushed`);
    console.log(
      `      ${result.step} steps in ${result.wallSeconds.toFixed(0)} s, ${(found.bytes / 1e6).toFixed(0)} MB captured, accuracy ${result.testAccuracy}, recoveries ${JSON.stringify(result.recoveries)}`,
    );

    const local = await finish(['launch', ...runFileArguments(), '--runs-dir', folder, '--run-id', 'local']);
    assert.deepEqual(digestsOf(result), digestsOf(local), 'the digests of the same run on one host');
  });

  function run(command: readonly string[], heard: (text: string) => void = () => undefined): ChildProcess {
    const [program = '', ...args] = command;
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.on('data', (data: Buffer) => heard(data.toString()));
    child.stderr.on('data', (data: Buffer) => heard(data.toString()));
    processes.push(child);
    return child;
  }

  async function startEtcd(files: { ca: string; certificate: string; key: string }): Promise<void> {
    const url = `https://${addressOf(1)}:2379`;
    let said = '';
    run(
      [
        ...['ip', 'netns', 'exec', spaceOf(1), 'etcd', '--data-dir', join(folder, 'etcd')],
        ...['--listen-client-urls', url, '--advertise-client-urls', url],
        ...['--listen-peer-urls', `http://127.0.0.1:2380`, '--initial-advertise-peer-urls', 'http://127.0.0.1:2380'],
        ...['--initial-cluster', 'default=http://127.0.0.1:2380'],
        ...[
          '--cert-file',
          files.certificate,
          '--key-file',
          files.key,
          '--client-cert-auth',
          '--trusted-ca-file',
          files.ca,
        ],
      ],
      (text) => (said += text),
    );
    await until('etcd to serve', () =>
      /ready to serve client requests|serving client requests/.test(said) ? true : null,
    );
  }

  async function prepareRun(more: Record<string, unknown>): Promise<RunDirectory> {
    const [runFile = '', ...set] = runFileArguments();
    const overrides = set.filter((each) => each !== '--set');
    for (const [name, value] of Object.entries(more)) overrides.push(`${name}=${JSON.stringify(value)}`);
    const { config } = await describeJob(loadRunFile(runFile, { set: overrides }));
    await mkdir(join(folder, 'runs'));
    return RunDirectory.create(join(folder, 'runs'), RUN_ID, runConfigToYaml(config));
  }
});

function runFileArguments(): string[] {
  const example = new URL('../../deploy/examples/lenet-300-100.yaml', import.meta.url).pathname;
  if (STEPS === 5616) return [example];
  const [begin, end] = [Math.floor(STEPS / 6), Math.floor(STEPS / 2)];
  return [
    example,
    ...['--set', `training.steps=${STEPS}`, '--set', `sparsity.0.schedule.beginStep=${begin}`],
    ...['--set', `sparsity.0.schedule.endStep=${end}`, '--set', `training.evaluateEvery=${STEPS}`],
    ...['--set', 'checkpoint.every=100'],
  ];
}

async function untilStep(directory: RunDirectory, step: number, said: () => string): Promise<void> {
  await until(
    `step ${step}`,
    async () => {
      const metrics = await readMetrics(directory.path).catch(() => []);
      if (existsSync(directory.resultFile)) throw new Error(`the run ended early:\n${said()}`);
      return (metrics.at(-1)?.step ?? 0) >= step ? true : null;
    },
    300_000,
  );
}

/** Which of the texts occur in a file, and how long it is; read in pieces that overlap. */
async function search(path: string, texts: readonly string[]): Promise<{ hits: string[]; bytes: number }> {
  const hits = new Set<string>();
  let tail = Buffer.alloc(0);
  let bytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    const piece = Buffer.concat([tail, chunk]);
    for (const text of texts) if (piece.includes(text)) hits.add(text);
    tail = piece.subarray(-256);
  }
  return { hits: [...hits], bytes };
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

function takeDown(): void {
  for (const args of [...HOSTS.map((host) => ['netns', 'del', spaceOf(host)]), ['link', 'del', BRIDGE]]) {
    try {
      ip(...args);
    } catch {
      // It was not there.
    }
  }
}
