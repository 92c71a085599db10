// Accepts likes: node producer.mjs LIKES VIDEOS CALLS_IN_FLIGHT LIKES_PER_CALL. Prints how many the queue took.
import { Queue } from 'bullmq';
import Redis from 'ioredis';

const [likes, videos, inFlight, perCall] = process.argv.slice(2).map(Number);
const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: 1 });
const queue = new Queue('likes', {
  connection,
  defaultJobOptions: {
    attempts: 5,
    backoff: { type: 'exponential', delay: 1000 },
    removeOnComplete: { count: 1000 },
    removeOnFail: { count: 5000 },
  },
});

let next = 0;
let accepted = 0;
async function caller() {
  while (next < likes) {
    const jobs = [];
    while (jobs.length < perCall && next < likes) {
      const user = ++next;
      jobs.push({ name: 'like', data: { user, video: (user % videos) + 1 } });
    }
    if (jobs.length === 1) await queue.add(jobs[0].name, jobs[0].data);
    else await queue.addBulk(jobs);
    accepted += jobs.length;
  }
}
await Promise.all(Array.from({ length: inFlight }, caller));
console.log(accepted);
await queue.close();
await connection.quit();
