# As the template's parameters, which say more.

variable "stack_name" {
  type    = string
  default = "picket-collector"
}

variable "vpc_id" {
  type = string
}

variable "subnet_id" {
  type = string
}

variable "availability_zone" {
  type = string
}

variable "agent_cidr" {
  type    = string
  default = "10.0.0.0/8"
}

variable "name" {
  description = "DNS name by which agents reach it."
  type        = string
}

variable "hosted_zone_id" {
  type    = string
  default = ""
}

variable "accounts" {
  description = "Accounts whose instances may enrol."
  type        = list(string)
}

variable "instance_type" {
  type    = string
  default = "t4g.medium"
}

variable "image_id" {
  type = string
}

variable "volume_gib" {
  type    = number
  default = 50
}

variable "artifact_bucket" {
  type = string
}

variable "artifact_prefix" {
  type    = string
  default = "picket/"
}

variable "sums_sha256" {
  type = string
}

variable "trail_bucket" {
  type    = string
  default = ""
}

variable "trail_topic_arn" {
  type    = string
  default = ""
}

variable "trail_key_arn" {
  type    = string
  default = ""
}

variable "session_manager" {
  type    = bool
  default = true
}
