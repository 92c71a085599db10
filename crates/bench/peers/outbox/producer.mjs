// Accepts likes: node producer.mjs LIKES VIDEOS CALLS_IN_FLIGHT LIKES_PER_CALL (1). Prints how many are committed.
import mysql from 'mysql2/promise';

const [likes, videos, inFlight] = process.argv.slice(2).map(Number);
const database = mysql.createPool({ uri: process.env.DATABASE_URL, connectionLimit: inFlight });

// The row and the note that its counter must follow, or neither. A like that is there already says nothing.
async function like(user, video) {
  const db = await database.getConnection();
  try {
    await db.beginTransaction();
    const [result] = await db.execute('INSERT IGNORE INTO peer_likes (user_id, video_id) VALUES (?, ?)', [user, video]);
    if (result.affectedRows === 1) await db.execute('INSERT INTO peer_outbox (video_id) VALUES (?)', [video]);
    await db.commit();
  } catch (error) {
    await db.rollback();
    throw error;
  } finally {
    db.release();
  }
}

let next = 0;
let accepted = 0;
async function caller() {
  while (next < likes) {
    const user = ++next;
    await like(user, (user % videos) + 1);
    accepted += 1;
  }
}
await Promise.all(Array.from({ length: inFlight }, caller));
console.log(accepted);
await database.end();
