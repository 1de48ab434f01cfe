/**
 * Loads a module of the user's (a model or a data module). TypeScript goes through tsx, also when Whittle
 * itself runs compiled. Whatever the module's top level throws comes back with its own message and the line
 * in the user's file.
 */
import { existsSync } from 'node:fs';
import { extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { WhittleError } from '../../shared/errors.ts';
import { isCompiled } from '../../shared/package-root.ts';

/** Which code the errors of a module carry. */
export type ModuleErrorCode = 'MODEL' | 'DATA';

export async function importUserModule(path: string, code: ModuleErrorCode): Promise<Record<string, unknown>> {
  const kind = code === 'MODEL' ? 'model' : 'data';
  if (!existsSync(path)) {
    throw new WhittleError(code, `no ${kind} module at ${path}: check the path, it is relative to the run file`, {
      data: { path },
    });
  }
  const url = pathToFileURL(path).href;
  try {
    const isTypeScript = /^\.[cm]?tsx?$/.test(extname(path));
    // Run from its sources, Whittle has a TypeScript loader already.
    if (isTypeScript && isCompiled) await (typeScriptLoader ??= registerTypeScript());
    return exportsOf((await import(url)) as Record<string, unknown>);
  } catch (reason) {
    throw fromUserCode(reason, code, path, `the ${kind} module cannot be loaded`);
  }
}

let typeScriptLoader: Promise<void> | undefined;

/** For this thread, once. Not tsx's tsImport: that one loses the lines of modules outside an ES module package. */
async function registerTypeScript(): Promise<void> {
  const [commonJs, esModules] = await Promise.all([import('tsx/cjs/api'), import('tsx/esm/api')]);
  commonJs.register();
  esModules.register();
}

/** A module that was compiled to CommonJS on the way has its exports under `default`. */
function exportsOf(module: Record<string, unknown>): Record<string, unknown> {
  const inner = module['default'];
  if (typeof inner !== 'object' || inner === null) return { ...module };
  const { default: _wrapper, ...own } = module;
  return { ...(inner as Record<string, unknown>), ...own };
}

/**
 * What the user's code threw, as an error that says whose it is: its own message, the file, and the first line
 * of its stack that lies in that file. WhittleErrors pass unchanged.
 */
export function fromUserCode(reason: unknown, code: ModuleErrorCode, path: string, what: string): WhittleError {
  if (reason instanceof WhittleError) return reason;
  const message = reason instanceof Error ? `${reason.name}: ${reason.message}` : String(reason);
  const frame = reason instanceof Error ? firstFrame(reason.stack ?? '', path) : null;
  return new WhittleError(code, `${what}: ${message} (${frame ?? path})`, {
    cause: reason,
    data: { path, frame },
  });
}

/** `path:line:column` of the innermost call in the file; tsx adds a query to its URL. */
function firstFrame(stack: string, path: string): string | null {
  for (const line of stack.split('\n')) {
    const at = line.replace(/file:\/\//, '').replace(/\?[^:)]*/, '');
    const start = at.indexOf(`${path}:`);
    const position = start < 0 ? null : /^:(\d+)(?::(\d+))?/.exec(at.slice(start + path.length));
    if (position !== null) return path + position[0];
  }
  return null;
}

/** "it exports nothing", or the names, for messages about a missing export. */
export function listExports(module: Record<string, unknown>): string {
  const names = Object.keys(module).filter((name) => name !== '__esModule' && name !== 'module.exports');
  return names.length === 0 ? 'it exports nothing' : `it exports ${names.join(', ')}`;
}
