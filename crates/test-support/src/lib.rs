//! Private redis, mariadb and rabbitmq processes, fault proxy and builders for tests.
