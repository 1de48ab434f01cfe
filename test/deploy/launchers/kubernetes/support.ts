import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KubernetesOptions } from '../../../../deploy/launchers/kubernetes/options.ts';
import { KUBERNETES_DEFAULTS } from '../../../../deploy/launchers/kubernetes/options.ts';
import type { LaunchPlan } from '../../../../deploy/launchers/launcher.ts';
import { resolveRunConfig } from '../../../../shared/config/resolve.ts';
import { parseRunFile } from '../../../../shared/config/run-file.ts';
import type { RunConfig } from '../../../../shared/config/types.ts';

export function configOf(text = 'model: lenet-300-100\n', path = '/home/me/run.yaml'): RunConfig {
  const data = text.includes('data:') ? '' : 'data: { source: mnist, batchSize: 100 }\n';
  return resolveRunConfig(
    parseRunFile(`${text}${data}training: { steps: 50, optimizer: { kind: adam } }\n`, path, {}),
    { trainExamples: 1000, testExamples: 100, backend: 'wasm' },
  );
}

export function planOf(changes: Partial<LaunchPlan> = {}): LaunchPlan {
  return {
    runId: 'mine',
    runDirectory: '/here/runs/mine',
    servers: 2,
    workers: 3,
    minWorkers: 3,
    standbys: 0,
    maxRestarts: 4,
    host: '127.0.0.1',
    port: 0,
    resume: null,
    ...changes,
  };
}

export function optionsOf(changes: Partial<KubernetesOptions> = {}): KubernetesOptions {
  return { ...KUBERNETES_DEFAULTS, image: 'registry.example/whittle:1', ...changes };
}

/** A folder that is gone after the test. */
export function temporaryFolder(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'whittle-kubernetes-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
