//! RabbitMQ adapter: topology, publisher, consumer.
