/** Deletes a JobSet for a launcher that is ending: `node delete-main CONTEXT NAMESPACE NAME`. */
import { connectCluster } from './api.ts';
import { JOB_SET } from './job-set.ts';

const [context = '', namespace = '', name = ''] = process.argv.slice(2);
const api = await connectCluster({ context, namespace });
await api.remove({ ...JOB_SET, name }, 'Background');
