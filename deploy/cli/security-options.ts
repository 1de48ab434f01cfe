import { resolve } from 'node:path';
import { useCredentials } from '../../shared/rpc/credentials.ts';
import { loadRunSecurity } from '../../shared/security/run-security.ts';
import type { OptionDefinitions } from './command.ts';

/** For all that talks to a run: which certificates it has. */
export const certsOption = {
  type: 'string',
  label: 'DIR',
  description: "folder of the run's certificates (see `whittle certs`); default: what its run file says",
} as const satisfies OptionDefinitions[string];

/** For commands that start a run or a role of it. */
export const securityOptions = {
  certs: certsOption,
  insecure: {
    type: 'boolean',
    description:
      'listen off loopback also without certificates: whoever is on the network can then read and change the run',
  },
} as const satisfies OptionDefinitions;

/** For commands that listen. */
export const listenOptions = {
  ...securityOptions,
  advertise: {
    type: 'string',
    label: 'HOST',
    description:
      "name or address by which other roles reach this one, which the certificates must cover; default: --host, or the machine's name where that is 0.0.0.0 or ::",
  },
  healthPort: {
    type: 'integer',
    label: 'PORT',
    min: 1,
    max: 65535,
    description: 'also answer health checks, and nothing else, in plain text on this port: probes have no certificate',
  },
} as const satisfies OptionDefinitions;

interface ParsedSecurityOptions {
  readonly certs: string | undefined;
  readonly insecure: boolean;
}

export interface ParsedListenOptions extends ParsedSecurityOptions {
  readonly advertise: string | undefined;
  readonly healthPort: number | undefined;
}

/** `--certs` and `--insecure` as overrides of the run file, so that every role of the run finds them there. */
export function securityOverrides({ certs, insecure }: ParsedSecurityOptions): string[] {
  return [
    ...(certs === undefined ? [] : [`security.certificates=${JSON.stringify(resolve(certs))}`]),
    ...(insecure ? ['security.insecure=true'] : []),
  ];
}

/** To be called by a role before anything else: its clients and its server then use the run's credentials. */
export async function secureRole(runDirectory: string, options: ParsedListenOptions): Promise<void> {
  const { certs, insecure, advertise, healthPort } = options;
  const security = await loadRunSecurity(runDirectory, { certificates: certs, insecure, make: true });
  useCredentials(security.credentials, { insecure: security.insecure, advertise, healthPort });
}
