# As the template's parameters, which say more.

variable "template" {
  description = "agents.json, as scripts/ssm-package made it."
  type        = string
}

variable "regions" {
  type = list(string)
}

variable "organizational_unit_ids" {
  type = list(string)
}

variable "artifact_url" {
  type = string
}

variable "collector" {
  type = string
}

variable "authority_sha256" {
  type = string
}

variable "configuration" {
  type    = string
  default = ""
}

variable "tag_key" {
  type    = string
  default = "picket"
}

variable "tag_value" {
  type    = string
  default = "on"
}

variable "schedule" {
  type    = string
  default = "rate(1 day)"
}

variable "health_schedule" {
  type    = string
  default = "rate(1 hour)"
}

variable "max_concurrency" {
  type    = string
  default = "10%"
}

variable "max_errors" {
  type    = string
  default = "2%"
}
