# Read by the image of MySQL when it creates the database: MYSQL_USER owns the schema and is used by `syncctl migrate` alone;
# the programs may read and write rows, and create, change or drop no table.
docker_process_sql <<SQL
CREATE USER 'interaction_serve'@'%' IDENTIFIED BY '$(cat /run/secrets/mysql_serve_password)';
GRANT SELECT, INSERT, UPDATE, DELETE ON \`$MYSQL_DATABASE\`.* TO 'interaction_serve'@'%';
SQL
