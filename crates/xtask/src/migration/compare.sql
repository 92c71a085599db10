-- Rows of the new tables that are not what the old ones say, both ways, and wrong counts: for users of the old system.
-- {users} is filled in. A like that was taken back long ago may have gone to the archive of tombstones.
SELECT
(SELECT COUNT(*) FROM legacy.truth t LEFT JOIN video_likes l ON l.user_id = t.user_id AND l.video_id = t.video_id
  LEFT JOIN archived_tombstones a ON a.resource_type = 'video' AND a.user_id = t.user_id AND a.resource_id = t.video_id
  WHERE IF(l.user_id IS NULL, t.liked OR a.user_id IS NULL, (l.deleted_at IS NULL) <> t.liked))
+ (SELECT COUNT(*) FROM video_likes l LEFT JOIN legacy.truth t ON l.user_id = t.user_id AND l.video_id = t.video_id
  WHERE l.user_id <= {users} AND t.user_id IS NULL)
+ (SELECT COUNT(*) FROM legacy.comment_likes o LEFT JOIN comment_likes l
  ON l.user_id = o.user_id AND l.comment_id = o.comment_id
  LEFT JOIN archived_tombstones a
  ON a.resource_type = 'comment' AND a.user_id = o.user_id AND a.resource_id = o.comment_id
  WHERE IF(l.user_id IS NULL, o.deleted_at IS NULL OR a.user_id IS NULL,
    (l.deleted_at IS NULL) <> (o.deleted_at IS NULL)))
+ (SELECT COUNT(*) FROM like_counts c WHERE c.like_count <> IF(c.resource_type = 'video',
  (SELECT COUNT(*) FROM video_likes l WHERE l.video_id = c.resource_id AND l.deleted_at IS NULL),
  (SELECT COUNT(*) FROM comment_likes l WHERE l.comment_id = c.resource_id AND l.deleted_at IS NULL)))
