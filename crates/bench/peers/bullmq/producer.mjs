// Accepts likes: node producer.mjs LIKES VIDEOS CALLS_IN_FLIGHT. Prints how many the queue took.
import { Queue } from 'bullmq';
import Redis from 'ioredis';

const [likes, videos, inFlight] = process.argv.slice(2).map(Number);
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
    const user = ++next;
    await queue.add('like', { user, video: (user % videos) + 1 });
    accepted += 1;
  }
}
await Promise.all(Array.from({ length: inFlight }, caller));
console.log(accepted);
await queue.close();
await connection.quit();
