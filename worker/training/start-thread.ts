import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';

/**
 * Starts the worker thread whose code lies beside the caller's, compiled or as source. A TypeScript loader's
 * hooks do not reach worker threads, so from sources the thread registers its own first.
 */
export function startThread(callerUrl: string, name: string, workerData: unknown): Worker {
  if (!callerUrl.endsWith('.ts')) return new Worker(new URL(`./${name}.js`, callerUrl), { workerData });
  const code = new URL(`./${name}.ts`, callerUrl).href;
  const tsx = pathToFileURL(createRequire(callerUrl).resolve('tsx/package.json'));
  const bootstrap = ['dist/cjs/api/index.mjs', 'dist/esm/api/index.mjs']
    .map((path) => `(await import(${JSON.stringify(new URL(path, tsx).href)})).register();`)
    .concat(`await import(${JSON.stringify(code)});`)
    .join(' ');
  return new Worker(`(async () => { ${bootstrap} })()`, { eval: true, workerData });
}
