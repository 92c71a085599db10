//! The one configuration file, composed of every part own section.
