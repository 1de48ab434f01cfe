import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CliResult } from '../../cli/run.ts';
import { cli } from '../../cli/run.ts';
import { ClusterDouble } from './cluster-double.ts';
import { PodsDouble } from './pods-double.ts';
import { temporaryFolder } from './support.ts';

const RUN_FILE = (steps: number): string => `
seed: 1
model: ./model.ts
data: { source: ./data.ts, batchSize: 8 }
cluster: { servers: 2, workers: 2, backend: cpu }
training: { steps: ${steps}, optimizer: { kind: sgd, learningRate: 0.1 } }
checkpoint: { every: 5 }
`;
const MODEL = `
import { units } from './size.ts';
export const model = (tf) => tf.sequential({ layers: [tf.layers.dense({ units, inputShape: [3] })] });
`;
const DATA = `
export const train = {
  size: 64,
  batch: (indices) => ({
    inputs: { data: Float32Array.from({ length: 3 * indices.length }, (_, k) => (indices[Math.floor(k / 3)] + k) / 64), shape: [indices.length, 3] },
    labels: { data: Int32Array.from(indices, (i) => i % 2), shape: [indices.length] },
  }),
};
`;

describe('launch --on kubernetes through a double of the API, its pods being processes of this machine', function () {
  this.timeout(300_000);
  let cluster: ClusterDouble;
  let pods: PodsDouble;
  let folder: ReturnType<typeof temporaryFolder>;
  let kubeconfig: string | undefined;

  beforeEach(async () => {
    folder = temporaryFolder();
    cluster = await ClusterDouble.start();
    pods = new PodsDouble(cluster, join(folder.path, 'volume'));
    kubeconfig = process.env['KUBECONFIG'];
    process.env['KUBECONFIG'] = cluster.writeKubeconfig(folder.path);
    writeFileSync(join(folder.path, 'run.yaml'), RUN_FILE(20));
    writeFileSync(join(folder.path, 'model.ts'), MODEL);
    writeFileSync(join(folder.path, 'size.ts'), 'export const units = 2;\n');
    writeFileSync(join(folder.path, 'data.ts'), DATA);
  });
  afterEach(async function () {
    if (this.currentTest?.state === 'failed')
      for (const [pod, lines] of cluster.logs) console.error([pod, ...lines.slice(-12)].join('\n    ').slice(0, 6000));
    await pods.stop();
    // A launch that still follows its run sees that it is gone.
    cluster.objects.clear();
    await Promise.allSettled(launches.splice(0));
    await cluster.stop();
    if (kubeconfig === undefined) delete process.env['KUBECONFIG'];
    else process.env['KUBECONFIG'] = kubeconfig;
    folder.remove();
  });

  const launches: Promise<CliResult>[] = [];
  const launch = (...args: string[]): Promise<CliResult> => {
    const launched = cli([
      ...['launch', join(folder.path, 'run.yaml'), '--on', 'kubernetes', '--image', 'whittle:test', '--run-id', 'mine'],
      ...['--include', join(folder.path, 'size.ts'), '--runs-dir', join(folder.path, 'runs'), ...args],
    ]);
    launches.push(launched);
    return launched;
  };
  const on = (...args: string[]): Promise<CliResult> =>
    cli([...args, '--runs-dir', join(folder.path, 'nowhere'), '--on', 'kubernetes']);

  it('submits, follows, reports; status, logs and stop by id alone', async () => {
    const { exitCode, stdout, stderr } = await launch();
    assert.equal(exitCode, 0, stderr + stdout);
    assert.match(stderr, /submitted JobSet mine in namespace team/);
    assert.match(stderr, /made claim whittle-runs/);
    const result = JSON.parse(readFileSync(join(folder.path, 'runs/mine/result.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    assert.equal(result['state'], 'SUCCEEDED');
    assert.equal(result['step'], 20);
    assert.match(stdout, /SUCCEEDED|finished/);

    const jobSet = cluster.get('JobSet', 'mine');
    for (const kind of ['ConfigMap', 'Secret', 'NetworkPolicy', 'PodDisruptionBudget'])
      for (const object of cluster.of(kind))
        assert.equal(object.metadata.ownerReferences?.[0]?.uid, jobSet?.metadata.uid, kind);
    assert.equal(cluster.get('PersistentVolumeClaim', 'whittle-runs')?.metadata.ownerReferences, undefined);
    const policy = cluster.of('NetworkPolicy')[0]?.['spec'] as { ingress: { from: unknown[] }[] };
    assert.equal(policy.ingress[0]?.from.length, 1);
    const secret = cluster.of('Secret')[0]?.['data'] as Record<string, string>;
    assert.deepEqual(Object.keys(secret).sort(), ['ca.pem', 'cert.pem', 'key.pem', 'token']);
    assert.match(Buffer.from(secret['key.pem'] ?? '', 'base64').toString(), /BEGIN PRIVATE KEY/);

    const status = await on('status', 'mine', '--json');
    assert.equal((JSON.parse(status.stdout) as { state: string }).state, 'SUCCEEDED', status.stderr);
    const logs = await on('logs', 'mine', '--role', 'server', '--rank', '1');
    assert.match(logs.stdout, /S\[1\]/);
    assert.doesNotMatch(logs.stdout, /S\[0\]|"event"/);
    assert.match((await on('stop', 'mine')).stdout, /is not running: SUCCEEDED at step 20/);
    const again = await launch();
    assert.equal(again.exitCode, 2);
    assert.match(again.stderr, /RUN_EXISTS/);
  });

  it('stops at a checkpoint when asked by id, without any network to the pods', async () => {
    writeFileSync(join(folder.path, 'run.yaml'), RUN_FILE(1_000_000));
    const launched = launch('--json');
    await until(launched, () => [...cluster.logs.values()].flat().some((line) => line.includes('"state":"RUNNING"')));
    const stopped = await on('stop', 'mine');
    assert.match(stopped.stdout, /ended STOPPED at step \d+/, stopped.stderr);
    const { exitCode, stdout } = await launched;
    assert.equal(exitCode, 130);
    assert.equal((JSON.parse(stdout) as { state: string }).state, 'STOPPED');
    assert.ok(cluster.requests.some((request) => /^PATCH .*\/pods\/mine-scheduler-0-0-/.test(request)));
    assert.ok(existsSync(join(folder.path, 'volume/runs/mine/checkpoints')));
  });

  it('goes on when a node is drained: the pods of a worker and of the scheduler are replaced under their names', async () => {
    writeFileSync(join(folder.path, 'run.yaml'), RUN_FILE(1_000_000));
    const launched = launch('--json');
    const printed = (pattern: RegExp): boolean => [...cluster.logs.values()].flat().some((line) => pattern.test(line));
    await until(launched, () => printed(/"state":"RUNNING"/));
    pods.evict('worker', 0);
    await until(
      launched,
      () => cluster.of('Pod').filter(({ metadata }) => metadata.name.includes('-worker-0-0-')).length === 2,
    );
    pods.evict('scheduler', 0);
    await until(launched, () => [...cluster.logs.keys()].filter((pod) => pod.includes('-scheduler-')).length === 2);
    const second = (): string[] => [...cluster.logs].filter(([pod]) => pod.includes('-scheduler-')).at(-1)?.[1] ?? [];
    await until(launched, () => second().some((line) => line.includes('"state":"RUNNING"')));
    const stopped = await on('stop', 'mine');
    assert.match(stopped.stdout, /ended STOPPED at step \d+/, stopped.stderr);
    assert.equal((await launched).exitCode, 130);
  });
});

/** Waits for what a launch does; one that ends before says why. */
async function until(launched: Promise<CliResult>, condition: () => boolean): Promise<void> {
  let early: CliResult | undefined;
  void launched.then((result) => (early = result));
  for (const end = Date.now() + 60_000; !condition(); await new Promise((resolve) => setTimeout(resolve, 50))) {
    assert.equal(early, undefined, early?.stderr);
    if (Date.now() > end) throw new Error('waited 60 s in vain');
  }
}
