"""The osm command."""
