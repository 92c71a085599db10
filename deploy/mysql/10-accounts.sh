# Read by the image of MySQL when it creates the database: MYSQL_USER owns the schema and is used by `syncctl migrate` alone, which
# gives each program's account what that program does (--grant). Until then they may read and write rows.
for role in serve consume check; do
  docker_process_sql <<SQL
CREATE USER 'interaction_$role'@'%' IDENTIFIED BY '$(cat "/run/secrets/mysql_${role}_password")';
GRANT SELECT, INSERT, UPDATE, DELETE ON \`$MYSQL_DATABASE\`.* TO 'interaction_$role'@'%';
SQL
done
docker_process_sql <<SQL
GRANT ALL ON \`$MYSQL_DATABASE\`.* TO '$MYSQL_USER'@'%' WITH GRANT OPTION;
SQL
