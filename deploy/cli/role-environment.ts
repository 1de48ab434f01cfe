import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseRunConfig } from '../../shared/config/effective.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { Role } from '../../shared/telemetry/run-status.ts';
import { readRoleEnvironment, requireRole, type RolePlace } from '../launchers/environment.ts';
import { LAUNCHER_PIPE } from '../launchers/role-process.ts';

/** Options of the role commands that an environment may give instead. */
interface RoleOptions {
  readonly runDir: string | undefined;
  readonly scheduler?: string | undefined;
  readonly rank: number | undefined;
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly advertise?: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The options of a role command with what the environment says where they say nothing. Errors: USAGE. */
export function withEnvironment<O extends RoleOptions>(
  options: O,
  role: Role,
  env: Environment = process.env,
): O & { readonly host: string; readonly port: number } {
  // A launcher's word counts, also where it was itself started in such an environment.
  const place = env[LAUNCHER_PIPE] === '1' ? null : readRoleEnvironment(env);
  if (place === null) return { ...options, host: options.host ?? '127.0.0.1', port: options.port ?? 0 };
  requireRole(place, role);
  requireCounts(place, options.runDir);
  return withPlace(options, place);
}

export function withPlace<O extends RoleOptions>(
  options: O,
  place: RolePlace,
): O & { readonly host: string; readonly port: number } {
  const { listen } = place;
  const loopback = listen === null || /^(localhost|::1|127\..*)$/.test(listen.host);
  return {
    ...options,
    rank: options.rank ?? place.rank ?? undefined,
    scheduler: options.scheduler ?? place.scheduler ?? undefined,
    // The address that others use may be that of a proxy or a service, which cannot be listened on.
    host: options.host ?? (loopback ? (listen?.host ?? '127.0.0.1') : '0.0.0.0'),
    port: options.port ?? listen?.port ?? 0,
    ...(loopback ? {} : { advertise: options.advertise ?? listen.host }),
  };
}

/** Throws USAGE where the environment counts other roles than the run file. */
export function requireCounts({ servers, workers }: RolePlace, runDir: string | undefined): void {
  if (runDir === undefined || (servers === null && workers === null)) return;
  const path = join(resolve(runDir), 'run.yaml');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    // The role itself says what is wrong with its run directory.
    return;
  }
  const { cluster } = parseRunConfig(text, path);
  const { min, max } = cluster.workers;
  if (servers !== null && servers !== cluster.servers)
    throw new WhittleError(
      'USAGE',
      `the environment has ${servers} servers, and ${path} has cluster.servers ${cluster.servers}`,
    );
  if (workers !== null && (workers < min || workers > max))
    throw new WhittleError(
      'USAGE',
      `the environment has ${workers} workers, and ${path} has cluster.workers ${min === max ? max : `${min}:${max}`}`,
    );
}
