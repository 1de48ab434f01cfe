import { resolve } from 'node:path';
import { WhittleError } from '../../../shared/errors.ts';
import { makeCertificates, writeCertificates } from '../../../shared/security/make-certificates.ts';
import { defineCommand } from '../command.ts';

export const command = defineCommand({
  name: 'certs',
  description:
    "Make a run's certificates and its token: roles on several machines need them.\n" +
    'One certificate serves all roles. The key that issues it is thrown away, so nobody can add a member later; for more hosts or days make new ones and resume the run with them. Give the folder to every host, readable by its user only.',
  options: {
    out: {
      type: 'string',
      label: 'DIR',
      description: 'folder to write ca.pem, cert.pem, key.pem and token to; it is made',
    },
    hosts: {
      type: 'string',
      label: 'a,b,10.0.0.1',
      description: 'names and addresses by which roles are reached, beside localhost; *.example.org covers one label',
    },
    days: { type: 'integer', label: 'N', default: 30, min: 1, max: 3650, description: 'days until they expire' },
  },
  examples: [
    { command: 'certs --out certs --hosts node1,node2,10.0.0.3', effect: 'make certificates for three hosts' },
    {
      command: 'certs --out certs --days 7 --json',
      effect: 'make some for this machine alone, and print what they cover',
    },
  ],
  handler: async ({ options, output }) => {
    if (options.out === undefined)
      throw new WhittleError('USAGE', '--out is missing; name a folder, such as --out certs');
    const folder = resolve(options.out);
    const hosts = (options.hosts ?? '').split(',').filter((host) => host.trim() !== '');
    const made = await makeCertificates({ hosts, days: options.days });
    await writeCertificates(folder, made);
    const result = { folder, hosts: made.hosts, expires: made.expires.toISOString() };
    output.result(result, () =>
      [
        `wrote ca.pem, cert.pem, key.pem and token to ${folder}; key.pem and token are secret`,
        `good for ${made.hosts.join(', ')} until ${result.expires}`,
        `use them with: whittle launch run.yaml --certs ${folder}`,
      ].join('\n'),
    );
  },
});
