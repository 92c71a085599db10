-- The old system: a history of likes and unlikes, some in the same second, and repetitions; the table of likes it led to, with
-- soft deletes and duplicates; likes of comments; and rows that no import can understand. Rows of the second half come later.
-- {users} and {last_number} are filled in.
CREATE DATABASE legacy CHARACTER SET latin1; USE legacy;
CREATE TABLE numbers AS SELECT seq AS n FROM seq_0_to_{last_number};
CREATE TABLE all_behaviors (id BIGINT PRIMARY KEY, user_id BIGINT, video_id BIGINT, behavior_type VARCHAR(32),
  behavior_time VARCHAR(40));
INSERT INTO all_behaviors SELECT 2 * n + 1, 1 + n % {users}, 1 + CRC32(n) % 50,
  IF(CRC32(n * 7) % 10 = 0, 'view', IF(CRC32(n * 3) % 3 = 0, 'unlike', 'like')),
  DATE_FORMAT('2024-01-01' + INTERVAL n DIV 40 SECOND, '%Y-%m-%d %H:%i:%s') FROM numbers;
INSERT INTO all_behaviors SELECT id + 1, user_id, video_id, IF(behavior_type = 'like', 'unlike', 'like'), behavior_time
  FROM all_behaviors WHERE CRC32(id) % 6 = 0;
CREATE TABLE user_behaviors LIKE all_behaviors;
INSERT INTO user_behaviors SELECT * FROM all_behaviors WHERE id <= {users} * 8;
CREATE TABLE video_likes (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT, video_id BIGINT,
  created_at VARCHAR(40), updated_at VARCHAR(40), deleted_at VARCHAR(40), is_deleted TINYINT);
CREATE TABLE truth AS SELECT user_id, video_id, behavior_type = 'like' AS liked, behavior_time, id FROM (
  SELECT b.*, ROW_NUMBER() OVER (PARTITION BY user_id, video_id ORDER BY behavior_time DESC, id DESC) AS newest
  FROM all_behaviors b WHERE behavior_type IN ('like', 'unlike')) ordered WHERE newest = 1;
INSERT INTO video_likes (user_id, video_id, created_at, deleted_at, is_deleted)
  SELECT user_id, video_id, IF(liked, behavior_time, '2023-12-31 00:00:00'), IF(liked, NULL, behavior_time), NOT liked
  FROM truth ORDER BY id;
INSERT INTO video_likes (user_id, video_id, created_at, is_deleted)
  SELECT user_id, video_id, behavior_time, 0 FROM truth WHERE liked AND id % 9 = 0;
CREATE TABLE comment_likes (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT, comment_id BIGINT,
  created_at DATETIME NULL, deleted_at DATETIME NULL);
INSERT INTO comment_likes (user_id, comment_id, created_at, deleted_at)
  SELECT 1 + n % {users}, 1 + n % 37, '2024-01-01 10:00:00', IF(n % 5 = 0, '2024-01-02 10:00:00', NULL)
  FROM numbers WHERE n < {users};
INSERT INTO video_likes (user_id, video_id, created_at, is_deleted) VALUES
  (-1, 1, '2024-01-01 00:00:00', 0), (1, 0, '2024-01-01 00:00:00', 0), (1, 1, NULL, 0), (1, 1, 'soon', 0),
  (NULL, 1, '2024-01-01 00:00:00', 0), (1, 1, '2199-01-01 00:00:00', 0);
