import { stringify } from 'yaml';
import { disruptionBudgets, filesConfigMap, networkPolicy, runsClaim } from './companions.ts';
import { etcdObjects } from './etcd.ts';
import { jobSet } from './job-set.ts';
import type { KubernetesObject } from './objects.ts';
import type { RunParts } from './pod-template.ts';

export interface RunObjects {
  /** Belongs to all runs of the namespace; made only where it is missing. */
  readonly claim: KubernetesObject;
  /** The owner of the companions: they are deleted with it. */
  readonly jobSet: KubernetesObject;
  readonly companions: readonly KubernetesObject[];
}

/** All objects of a run but its Secret, whose content only the submission has. */
export function runObjects(parts: RunParts, suspend: boolean): RunObjects {
  return {
    claim: runsClaim(parts.names, parts.options),
    jobSet: jobSet(parts, suspend),
    companions: [filesConfigMap(parts), ...disruptionBudgets(parts), networkPolicy(parts), ...etcdObjects(parts)],
  };
}

/** The objects as YAML for `kubectl apply -f -`, what others need first. Secrets are never printed. */
export function manifestsYaml(parts: RunParts): string {
  const { claim, companions, jobSet: owner } = runObjects(parts, false);
  const documents = [claim, ...companions, owner].map((object) =>
    stringify(object, { aliasDuplicateObjects: false, lineWidth: 0 }),
  );
  return [...head(parts), documents.join('---\n')].join('\n');
}

function head({ names, secret }: RunParts): string[] {
  const { namespace } = names;
  return [
    '# `whittle launch` makes these objects, all but the claim owned by the JobSet, so that they go with it.',
    ...(secret !== names.secret
      ? []
      : [
          `# Not shown: Secret ${secret}. To apply these by hand, make it from a folder of \`whittle certs\`:`,
          `#   kubectl create secret generic ${secret} --namespace ${namespace} --from-file=DIR`,
        ]),
    `# Delete the run with: kubectl delete jobset ${names.jobSet} --namespace ${namespace}`,
  ];
}
